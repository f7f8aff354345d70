//! Makes the request for a page. Pure.

use alluvium_connector::http::Request;
use alluvium_model::SourceError;
use reqwest::Method;
use reqwest::header::{HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use serde_json::Value;
use url::Url;

use crate::cursor::{Continuation, Run, Validator, hash};
use crate::settings::{Pagination, RequestMethod, RestEntity};

/// The request for the next page of `run`.
pub(crate) fn request_for(
    base: &Url,
    entity: &RestEntity,
    run: &Run,
) -> Result<Request, SourceError> {
    let mut request = Request::get(entity.path.clone(), address(base, &entity.path)?);
    if entity.method == RequestMethod::Post {
        request.method = Method::POST;
        let body = entity.body.clone().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        request.body = Some(body.to_string().into());
    } else if entity.body.is_some() {
        return Err(misfit("a `body` needs `method: POST`"));
    }
    if let Some(Continuation::Url(next)) = &run.next {
        request.url =
            Url::parse(next).map_err(|_| misfit("the stored address of the next page is none"))?;
        return Ok(request);
    }
    let mut params: Vec<(&str, String)> = Vec::new();
    for (name, value) in &entity.params {
        params.push((name, scalar(name, value)?));
    }
    if let (Some(incremental), Some(from)) = (&entity.incremental, &run.from)
        && let Some(param) = &incremental.param
    {
        params.push((param, from.as_param(incremental.format)));
    }
    params.extend(page_params(&entity.pagination, run.next.as_ref()));
    if !params.is_empty() {
        request.url.query_pairs_mut().extend_pairs(params);
    }
    Ok(request)
}

/// What names a request, so that an `ETag` is only sent for what it was given for.
pub(crate) fn name_of(request: &Request) -> String {
    hash(request.url.as_str().as_bytes())
}

/// Makes the request conditional.
pub(crate) fn only_if_changed(request: &mut Request, validator: &Validator) {
    let mut add = |name, value: &Option<String>| {
        if let Some(value) = value.as_ref().and_then(|text| HeaderValue::try_from(text).ok()) {
            request.headers.insert(name, value);
        }
    };
    add(IF_NONE_MATCH, &validator.etag);
    add(IF_MODIFIED_SINCE, &validator.last_modified);
}

fn page_params<'a>(
    pagination: &'a Pagination,
    next: Option<&Continuation>,
) -> Vec<(&'a str, String)> {
    let (param, size_param, size, first) = match pagination {
        Pagination::Page { param, size_param, size, start, .. }
        | Pagination::Offset { param, size_param, size, start, .. } => {
            (param, size_param, size, Some(*start))
        }
        Pagination::Cursor { param, .. } => (param, &None, &None, None),
        Pagination::None | Pagination::NextUrl { .. } | Pagination::LinkHeader => {
            return Vec::new();
        }
    };
    let at = match next {
        Some(Continuation::Page(at) | Continuation::Offset(at)) => Some(at.to_string()),
        Some(Continuation::Token(token)) => Some(token.clone()),
        _ => first.map(|first| first.to_string()),
    };
    let at = at.map(|at| (param.as_str(), at));
    let size = size_param.as_deref().zip(size.map(|size| size.to_string()));
    at.into_iter().chain(size).collect()
}

fn address(base: &Url, path: &str) -> Result<Url, SourceError> {
    if path.contains("://") {
        return Err(misfit("`path` must be a path below the system's `base_url`"));
    }
    let mut url = base.clone();
    let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
    if !path.is_empty() {
        let joined =
            format!("{}/{}", base.path().trim_end_matches('/'), path.trim_start_matches('/'));
        url.set_path(&joined);
    }
    if query.is_some() {
        url.set_query(query);
    }
    Ok(url)
}

fn scalar(name: &str, value: &Value) -> Result<String, SourceError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(misfit(&format!("the parameter `{name}` must be a text, a number or a boolean"))),
    }
}

fn misfit(what: &str) -> SourceError {
    SourceError::Misconfigured(what.to_owned())
}
