//! What an answer holds, and what leads from it to the next. Pure.

use alluvium_connector::JsonPath;
use alluvium_connector::http::Answer;
use alluvium_model::SourceError;
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use crate::cursor::Continuation;
use crate::settings::{Pagination, RestEntity};

/// The records of an answer.
pub(crate) fn records<'a>(
    entity: &RestEntity,
    body: &'a RawValue,
) -> Result<Vec<&'a RawValue>, SourceError> {
    let broken = |e| SourceError::BadAnswer(format!("its records cannot be read: {e}"));
    let Some(path) = &entity.records else {
        return match body.get().as_bytes().first() {
            Some(b'[') => serde_json::from_str(body.get()).map_err(broken),
            Some(b'{') => Ok(vec![body]),
            _ => Err(SourceError::BadAnswer("neither an array nor an object".into())),
        };
    };
    if let Some(container) = path.container()
        && container.select(body).map_err(broken)?.is_empty()
    {
        let text =
            format!("there is nothing at `{}`, where the records should be", container.as_str());
        return Err(SourceError::BadAnswer(text));
    }
    path.select(body).map_err(broken)
}

/// What leads from an answer with `found` records to the next; `None` at the end.
pub(crate) fn next(
    pagination: &Pagination,
    at: Option<&Continuation>,
    found: u64,
    answer: &Answer,
    body: &RawValue,
) -> Result<Option<Continuation>, SourceError> {
    match pagination {
        Pagination::None => Ok(None),
        Pagination::Page { start, size, short_page_ends, .. } => {
            let page = if let Some(Continuation::Page(page)) = at { *page } else { *start };
            let more = goes_on(found, *size, *short_page_ends);
            Ok(more.then_some(Continuation::Page(page.saturating_add(1))))
        }
        Pagination::Offset { start, size, short_page_ends, .. } => {
            let offset = if let Some(Continuation::Offset(offset)) = at { *offset } else { *start };
            let more = goes_on(found, *size, *short_page_ends);
            Ok(more.then_some(Continuation::Offset(offset.saturating_add(found))))
        }
        Pagination::Cursor { path, .. } => Ok(text_at(path, body)?.map(Continuation::Token)),
        Pagination::NextUrl { path } => {
            text_at(path, body)?.map(|next| same_host(&answer.url, &next)).transpose()
        }
        Pagination::LinkHeader => {
            answer.next_link().map(|next| same_host(&answer.url, &next)).transpose()
        }
    }
}

fn goes_on(found: u64, size: Option<u64>, short_page_ends: bool) -> bool {
    found > 0 && !(short_page_ends && size.is_some_and(|size| found < size))
}

fn text_at(path: &JsonPath, body: &RawValue) -> Result<Option<String>, SourceError> {
    let misfit = |what: &str| {
        Err(SourceError::BadAnswer(format!("{what} at `{}`, which leads on", path.as_str())))
    };
    let Ok(found) = path.first(body) else { return misfit("broken JSON stands") };
    match found.map(|json| serde_json::from_str(json.get())) {
        None | Some(Ok(Value::Bool(false))) => Ok(None),
        Some(Ok(Value::String(text))) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Ok(Value::Number(_))) => Ok(found.map(|json| json.get().to_owned())),
        Some(_) => misfit("neither a text nor a number stands"),
    }
}

/// The address, if it is of the host that gave it: credentials go nowhere else.
fn same_host(here: &Url, next: &str) -> Result<Continuation, SourceError> {
    let bad = |what: &str| SourceError::BadAnswer(format!("the next page {what}"));
    let mut url = here.join(next).map_err(|_| bad("has no valid address"))?;
    if here.scheme() == "https" && url.scheme() == "http" && url.port().is_none() {
        // Behind a proxy, sources often do not know that they are spoken to over TLS.
        url.set_scheme("https").map_err(|()| bad("has no valid address"))?;
    }
    if url.origin() != here.origin() {
        return Err(bad("is at another host"));
    }
    Ok(Continuation::Url(url.into()))
}
