//! What a store says when it refuses, without anything that identifies who asked: stores repeat
//! keys and signatures in their answers.

use std::error::Error as StdError;

use alluvium_model::{Secret, error};
use object_store::Error;

/// No answer is told at greater length.
const LONGEST: usize = 600;

/// What a store said, or why nothing came of asking.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub(crate) struct Answer {
    code: Option<String>,
    said: String,
}

/// Who can mend what an answer tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The settings: bucket, region, credentials, their rights, or this machine's clock.
    Settings,
    /// The store has no room.
    Room,
    /// The store does not know the request.
    Unknown,
}

/// Codes that only another setting or another right mends.
const SETTINGS: [&str; 19] = [
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "AuthorizationQueryParametersError",
    "ExpiredToken",
    "IllegalLocationConstraintException",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidRegion",
    "InvalidSecurity",
    "InvalidToken",
    "NoSuchBucket",
    "NotSignedUp",
    "PermanentRedirect",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "XAmzContentSHA256Mismatch",
];
const ROOM: [&str; 3] = ["QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"];
const UNKNOWN: [&str; 3] = ["NotImplemented", "MethodNotAllowed", "InvalidArgument"];

impl Answer {
    /// What stands in the chain of `error`, without `secrets`.
    fn of(error: &Error, secrets: &[Secret]) -> Self {
        let text = error::chain(error);
        // One of several deletes that failed is told without XML.
        let deleting = || text.rsplit_once("(code: ")?.1.split_once(')').map(|(code, _)| code);
        let code = element(&text, "Code").or_else(deleting).map(str::to_owned);
        let mut said = match (&code, element(&text, "Message")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (_, None) => text,
            (None, Some(message)) => message.to_owned(),
        };
        for secret in secrets.iter().filter(|secret| !secret.expose().is_empty()) {
            said = said.replace(secret.expose(), "***");
        }
        if let Some((end, _)) = said.char_indices().nth(LONGEST) {
            said.truncate(end);
        }
        Self { code, said }
    }

    /// The answer in the chain of `error`, if a store gave it.
    pub(crate) fn in_chain<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(answer) = error.downcast_ref() {
                return Some(answer);
            }
            next = error.source();
        }
        None
    }

    /// Who can mend it, where it is not the store itself.
    pub(crate) fn blame(&self) -> Option<Blame> {
        let Some(code) = self.code.as_deref() else {
            // Asked in the wrong region, a store points elsewhere without saying where.
            return self.said.contains("redirect").then_some(Blame::Settings);
        };
        let known = [
            (SETTINGS.as_slice(), Blame::Settings),
            (ROOM.as_slice(), Blame::Room),
            (UNKNOWN.as_slice(), Blame::Unknown),
        ];
        known.into_iter().find_map(|(codes, blame)| codes.contains(&code).then_some(blame))
    }
}

/// The same error, its cause an [`Answer`].
pub(super) fn cleaned(error: Error, secrets: &[Secret]) -> Error {
    let answer = Answer::of(&error, secrets);
    // That there is no such bucket is not that an object is missing.
    let no_bucket = answer.code.as_deref() == Some("NoSuchBucket");
    let source = Box::new(answer);
    match error {
        Error::NotFound { path, .. } if !no_bucket => Error::NotFound { path, source },
        Error::AlreadyExists { path, .. } => Error::AlreadyExists { path, source },
        Error::Precondition { path, .. } => Error::Precondition { path, source },
        Error::NotModified { path, .. } => Error::NotModified { path, source },
        Error::PermissionDenied { path, .. } => Error::PermissionDenied { path, source },
        Error::Unauthenticated { path, .. } => Error::Unauthenticated { path, source },
        Error::NotImplemented { operation, implementer } => {
            Error::NotImplemented { operation, implementer }
        }
        _ => Error::Generic { store: "S3", source },
    }
}

/// The text of the first XML element of this name.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    Some(after.split_once(&format!("</{name}>"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: &str = "Server returned non-2xx status code: 403 Forbidden: <Error>\
        <Code>SignatureDoesNotMatch</Code><Message>The signature is not right for canary-id.\
        </Message><AWSAccessKeyId>canary-id</AWSAccessKeyId><StringToSign>canary</StringToSign>\
        </Error>";

    fn answer(text: &str) -> Answer {
        let error = Error::Generic { store: "S3", source: text.into() };
        Answer::of(&error, &[Secret::new("canary-id")])
    }

    #[test]
    fn an_answer_keeps_what_helps_and_not_who_asked() {
        let answer = answer(REFUSAL);
        assert_eq!(
            answer.to_string(),
            "SignatureDoesNotMatch: The signature is not right for ***."
        );
        assert_eq!(answer.blame(), Some(Blame::Settings));
    }

    #[test]
    fn what_may_mend_itself_is_nobodys_fault() {
        assert_eq!(answer("<Code>SlowDown</Code>").blame(), None);
        assert_eq!(answer("connection refused").blame(), None);
        assert_eq!(answer("<Code>QuotaExceeded</Code>").blame(), Some(Blame::Room));
    }

    #[test]
    fn a_missing_bucket_is_not_a_missing_object() {
        let missing = |code: &str| Error::NotFound {
            path: "x".to_owned(),
            source: format!("<Code>{code}</Code>").into(),
        };
        assert!(matches!(cleaned(missing("NoSuchKey"), &[]), Error::NotFound { .. }));
        let error = cleaned(missing("NoSuchBucket"), &[]);
        assert!(!matches!(error, Error::NotFound { .. }), "{error:?}");
        assert_eq!(Answer::in_chain(&error).and_then(Answer::blame), Some(Blame::Settings));
    }
}
