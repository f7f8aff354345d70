//! Sends requests: with a deadline, a cap on the answer, credentials for one host only, a few
//! retries, and errors that say what mends them.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::error::chain;
use alluvium_model::{Clock, Secret, SourceError};
use backon::{ExponentialBuilder, Retryable};
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::answer::Answer;
use super::auth::{Auth, sensitive};
use super::limit::RateLimit;
use super::wait::{quota_used_up, retry_after};
use crate::connector::ConnectContext;
use crate::http::RateLimitSettings;

const REDIRECTS: usize = 5;
const USER_AGENT: &str = concat!("alluvium/", env!("CARGO_PKG_VERSION"));
/// What a 429 means that does not say how long.
const UNSAID_WAIT: Duration = Duration::from_secs(60);

/// The bounds of one client.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// A whole request, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// Connecting alone.
    pub connect_timeout: Duration,
    /// An answer's body, unpacked.
    pub max_body_bytes: usize,
    /// How often a request is sent again within one poll, after a short wait that the source asked
    /// for. What fails is for the runtime to try again: there is one policy for that.
    pub retries: usize,
    /// The shortest of these waits.
    pub backoff: Duration,
    /// The longest wait that a source may ask for within one poll; a longer one ends the poll.
    pub patience: Duration,
    /// How often the credential may be used.
    pub rate_limit: Option<RateLimitSettings>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            max_body_bytes: 64 << 20,
            retries: 2,
            backoff: Duration::from_millis(300),
            patience: Duration::from_secs(5),
            rate_limit: None,
        }
    }
}

/// A request for data. Repeating it must change nothing in the source.
#[derive(Clone)]
pub struct Request {
    /// What errors call it: the path as the metadata name it.
    pub label: String,
    /// GET or POST.
    pub method: Method,
    /// The address, without credentials.
    pub url: Url,
    /// Further headers, such as `If-None-Match`.
    pub headers: HeaderMap,
    /// The body, JSON text.
    pub body: Option<Bytes>,
}

impl Request {
    /// A GET.
    pub fn get(label: impl Into<String>, url: Url) -> Self {
        let (label, headers) = (label.into(), HeaderMap::new());
        Self { label, method: Method::GET, url, headers, body: None }
    }
}

/// A client for one host with one credential.
pub struct HttpClient {
    client: reqwest::Client,
    home: Url,
    auth: Auth,
    /// Sent to `home` only.
    private_headers: HeaderMap,
    secrets: Vec<Secret>,
    settings: HttpSettings,
    limit: Arc<RateLimit>,
    clock: Arc<dyn Clock>,
}

impl HttpClient {
    /// A client for the host of `base`. `headers` are sent with each request to that host.
    pub fn new(
        base: &Url,
        auth: Auth,
        headers: impl IntoIterator<Item = (String, Secret)>,
        settings: HttpSettings,
        context: &ConnectContext,
    ) -> Result<Self, SourceError> {
        let misfit = SourceError::Misconfigured;
        let host = base.host_str().filter(|_| matches!(base.scheme(), "http" | "https"));
        let host = host.ok_or_else(|| misfit("the address must be an http or https URL".into()))?;
        if !base.username().is_empty() || base.password().is_some() {
            return Err(misfit("the address must not carry a password; use `auth`".into()));
        }
        let mut secrets: Vec<Secret> = auth.secret().cloned().into_iter().collect();
        let mut private_headers = HeaderMap::new();
        for (name, value) in headers {
            let header = HeaderName::try_from(&name)
                .map_err(|_| misfit(format!("`{name}` is not a header name")))?;
            private_headers.insert(header, sensitive(value.expose()).map_err(misfit)?);
            secrets.push(value);
        }
        if let Some((name, value)) = auth.header().map_err(misfit)? {
            private_headers.insert(name, value);
        }
        let client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .timeout(settings.timeout)
            .connect_timeout(settings.connect_timeout.min(settings.timeout))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .build()
            .map_err(|e| SourceError::Unavailable(format!("no HTTP client: {}", chain(&e))))?;
        let limit = context.rate_limits.of(host, &auth, settings.rate_limit, &context.clock)?;
        let (home, clock) = (base.clone(), context.clock.clone());
        Ok(Self { client, home, auth, private_headers, secrets, settings, limit, clock })
    }

    /// Sends the request, and again where the source asked for a short wait. `Ok` is an answer with status
    /// 2xx, or 304 where the request was conditional; its body is whole and within the cap.
    pub async fn fetch(&self, request: &Request) -> Result<Answer, SourceError> {
        let patience = self.settings.patience;
        let backoff = ExponentialBuilder::default()
            .with_min_delay(self.settings.backoff)
            .with_max_delay(patience)
            .with_max_times(self.settings.retries)
            .with_jitter();
        let answer = (|| self.fetch_once(request)).retry(backoff);
        let answer =
            answer.when(|e| matches!(e, SourceError::RateLimited(wait) if *wait <= patience));
        let answer = answer.adjust(|e, pause| match e {
            SourceError::RateLimited(wait) => pause.map(|_| *wait),
            _ => pause,
        });
        answer.await.map_err(|e| self.scrub(e))
    }

    /// An address that the source gave, without our key: fit to be stored.
    pub fn without_key(&self, address: &str) -> String {
        Url::parse(address).map_or_else(
            |_| address.to_owned(),
            |mut url| {
                self.auth.remove_from_query(&mut url);
                url.into()
            },
        )
    }

    async fn fetch_once(&self, request: &Request) -> Result<Answer, SourceError> {
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS {
            self.limit.ready(self.settings.patience).await?;
            let response = self.send(request, &url).await?;
            let Some(target) = redirect(&response) else {
                return self.read(request, url, response).await;
            };
            let bad =
                || SourceError::BadAnswer(self.tell(request, "a redirect that leads nowhere"));
            url = url.join(&target).map_err(|_| bad())?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(bad());
            }
        }
        Err(SourceError::BadAnswer(self.tell(request, "too many redirects")))
    }

    async fn send(&self, request: &Request, url: &Url) -> Result<Response, SourceError> {
        let mut url = url.clone();
        let at_home = url.origin() == self.home.origin();
        let mut headers = request.headers.clone();
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        if at_home {
            self.auth.add_to_query(&mut url);
            headers.extend(self.private_headers.clone());
        } else if request.body.is_some() {
            return Err(SourceError::BadAnswer(
                self.tell(request, "a redirect of a POST to another host"),
            ));
        } else {
            self.auth.remove_from_query(&mut url);
        }
        let mut builder = self.client.request(request.method.clone(), url);
        if let Some(body) = &request.body {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            builder = builder.body(body.clone());
        }
        builder.headers(headers).send().await.map_err(|e| self.broken(request, e))
    }

    /// Judges the status, then reads the body up to the cap.
    async fn read(
        &self,
        request: &Request,
        mut url: Url,
        mut response: Response,
    ) -> Result<Answer, SourceError> {
        self.judge(request, response.status(), response.headers())?;
        let cap = self.settings.max_body_bytes;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.broken(request, e))? {
            if body.len() + chunk.len() > cap {
                let text = format!(
                    "more than {cap} bytes, which `max_body_bytes` of the system's `connection` allows"
                );
                return Err(SourceError::TooLarge(self.tell(request, &text)));
            }
            body.extend_from_slice(&chunk);
        }
        self.auth.remove_from_query(&mut url);
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        Ok(Answer { status, headers, url, body: body.freeze() })
    }

    fn judge(
        &self,
        request: &Request,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<(), SourceError> {
        let now = self.clock.now();
        let used_up = quota_used_up(headers, now);
        let asked = retry_after(headers, now);
        let wait = match status.as_u16() {
            429 => Some(asked.or(used_up).unwrap_or(UNSAID_WAIT)),
            503 => asked,
            403 => asked.or(used_up),
            _ => None,
        };
        if let Some(pause) = wait.or(used_up) {
            self.limit.pause(pause);
        }
        if let Some(wait) = wait {
            return Err(SourceError::RateLimited(wait));
        }
        let text = self.tell(request, &format!("HTTP {}", status.as_u16()));
        match status.as_u16() {
            200..=299 | 304 => Ok(()),
            401 | 403 | 407 => Err(SourceError::Refused(text)),
            408 | 425 | 500..=599 => Err(SourceError::Unavailable(text)),
            400..=499 => Err(SourceError::Misconfigured(text)),
            _ => Err(SourceError::BadAnswer(text)),
        }
    }

    fn broken(&self, request: &Request, error: reqwest::Error) -> SourceError {
        let what = if error.is_timeout() {
            format!("no whole answer within {} s", self.settings.timeout.as_secs_f32())
        } else if error.is_connect() {
            format!("no connection: {}", chain(&error.without_url()))
        } else {
            format!("it broke off: {}", chain(&error.without_url()))
        };
        SourceError::Unavailable(self.tell(request, &what))
    }

    /// `what`, with the request it is about: method, label and host.
    fn tell(&self, request: &Request, what: &str) -> String {
        let host = self.home.host_str().unwrap_or_default();
        format!("{what}, for {} `{}` at {host}", request.method, request.label)
    }

    /// The last line of defence: no error leaves with a secret in its text.
    fn scrub(&self, error: SourceError) -> SourceError {
        let clean = |text: String| {
            let known = self.secrets.iter().map(Secret::expose).filter(|s| s.len() >= 4);
            known.fold(text, |text, secret| text.replace(secret, "***"))
        };
        match error {
            SourceError::Unavailable(text) => SourceError::Unavailable(clean(text)),
            SourceError::BadAnswer(text) => SourceError::BadAnswer(clean(text)),
            SourceError::TooLarge(text) => SourceError::TooLarge(clean(text)),
            SourceError::Refused(text) => SourceError::Refused(clean(text)),
            SourceError::Misconfigured(text) => SourceError::Misconfigured(clean(text)),
            limited @ SourceError::RateLimited(_) => limited,
        }
    }
}

fn redirect(response: &Response) -> Option<String> {
    matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
        .then(|| response.headers().get(LOCATION)?.to_str().ok().map(str::to_owned))?
}
