//! What a store says when it refuses, without anything that identifies who asked: stores repeat
//! keys and signatures in their answers.

use std::cmp::Reverse;
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
/// What the client says of a store that points elsewhere without saying where, as it does to who
/// asks in the wrong region. A path may hold the word, too.
const REDIRECT: &str = "Received redirect without LOCATION";
/// Where a machine is asked who it is.
const MACHINE: [&str; 2] = ["/latest/api/token", "/latest/meta-data/iam/"];

impl Answer {
    /// What stands in the chain of `error`, without `secrets`.
    fn of(error: &Error, secrets: &[Secret]) -> Self {
        let text = error::chain(error);
        // One of several deletes that failed is told without XML.
        let deleting = || text.rsplit_once("(code: ")?.1.split_once(')').map(|(code, _)| code);
        let code = element(&text, "Code");
        let said = match (code, element(&text, "Message")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(only), None) | (None, Some(only)) => only.to_owned(),
            (None, None) => plain(&text),
        };
        let code = code.or_else(deleting).map(str::to_owned);
        Self { code, said: masked(said, secrets) }
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
            return self.said.contains(REDIRECT).then_some(Blame::Settings);
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
    let is_object = match answer.code.as_deref() {
        // A bucket or an upload that is not there is not that an object is missing.
        Some(code) => !matches!(code, "NoSuchBucket" | "NoSuchUpload"),
        // Nor is the page of somebody before the store, who does not find the store.
        None => !is_page(&error),
    };
    let source = Box::new(answer);
    match error {
        Error::NotFound { path, .. } if is_object => Error::NotFound { path, source },
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

/// Whether a 404 came with words.
fn is_page(error: &Error) -> bool {
    let text = error::chain(error);
    text.split_once("404 Not Found: ").is_some_and(|(_, body)| !body.trim().is_empty())
}

/// The text of the first XML element of this name, if it has some and no elements.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = after.split_once(&format!("</{name}>"))?;
    (!inner.is_empty() && !inner.contains('<')).then_some(inner)
}

/// What is told where there is neither code nor message: nothing of a body of XML, which may repeat
/// who asked.
fn plain(text: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphabetic() || matches!(c, '?' | '!');
    let mut opened = text.match_indices('<').map(|(at, _)| at);
    let end = opened.find(|at| text[at + 1..].starts_with(is_name)).unwrap_or(text.len());
    let plain = text[..end].trim_end_matches([' ', ':']);
    match MACHINE.iter().any(|path| plain.contains(path)) {
        true => format!("no key is given, and this machine does not say who it is: {plain}"),
        false => plain.to_owned(),
    }
}

/// Without `secrets`, and no longer than it may be.
fn masked(mut said: String, secrets: &[Secret]) -> String {
    let texts = secrets.iter().map(Secret::expose).filter(|text| !text.is_empty());
    let mut texts: Vec<&str> = texts.collect();
    // One may be a part of another, whose rest would be told.
    texts.sort_unstable_by_key(|text| Reverse(text.len()));
    for text in texts {
        said = said.replace(text, "***");
    }
    if let Some((end, _)) = said.char_indices().nth(LONGEST) {
        said.truncate(end);
    }
    said
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
    fn without_a_message_the_code_alone_is_told() {
        for message in
            ["", "<Message></Message>", "<Message><StringToSign>x</StringToSign></Message>"]
        {
            let answer = answer(&format!(
                "403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code>{message}\
                 <CanonicalRequest>x-amz-security-token:session</CanonicalRequest></Error>"
            ));
            assert_eq!(answer.to_string(), "SignatureDoesNotMatch");
            assert_eq!(answer.blame(), Some(Blame::Settings));
        }
    }

    #[test]
    fn without_a_code_nothing_of_xml_is_told() {
        for body in [
            "<?xml version=\"1.0\"?><Error><StringToSign>session</StringToSign></Error>",
            "<!DOCTYPE html><html>session</html>",
            "<s3:Error><s3:Code>X</s3:Code>session</s3:Error>",
        ] {
            let answer = answer(&format!("403 Forbidden: {body}"));
            assert_eq!(answer.to_string(), "Generic S3 error: 403 Forbidden");
            assert_eq!(answer.blame(), None);
        }
        let message =
            answer("502 Bad Gateway: <Error><Message>away</Message><Id>session</Id></Error>");
        assert_eq!(message.to_string(), "away");
    }

    #[test]
    fn plain_words_are_told_up_to_a_bound() {
        let words = answer("1 < 2, said canary-id").to_string();
        assert_eq!(words, "Generic S3 error: 1 < 2, said ***");
        let long = answer(&"ä".repeat(LONGEST)).to_string();
        assert_eq!((long.chars().count(), long.ends_with('ä')), (LONGEST, true));
        let deleted = answer("DeleteObjects request failed for key x: no (code: AccessDenied)");
        assert!(deleted.to_string().contains("for key x: no"), "{deleted}");
        assert_eq!(deleted.blame(), Some(Blame::Settings));
    }

    #[test]
    fn a_secret_that_begins_as_another_is_masked_whole() {
        let secrets = ["minio", "minio123", ""].map(Secret::new);
        assert_eq!(masked("minio123, minio".to_owned(), &secrets), "***, ***");
    }

    #[test]
    fn a_machine_that_does_not_say_who_it_is_is_told_of_as_such() {
        let answer = answer("Error performing PUT http://169.254.169.254/latest/api/token in 3s");
        assert!(answer.to_string().starts_with("no key is given"), "{answer}");
        assert_eq!(answer.blame(), None, "on Amazon's machines it may come back");
    }

    #[test]
    fn what_may_mend_itself_is_nobodys_fault() {
        assert_eq!(answer("<Code>SlowDown</Code>").blame(), None);
        assert_eq!(answer("connection refused").blame(), None);
        assert_eq!(answer("GET http://x/redirects/1: connection refused").blame(), None);
        assert_eq!(answer(&format!("{REDIRECT}, this …")).blame(), Some(Blame::Settings));
        assert_eq!(answer("<Code>QuotaExceeded</Code>").blame(), Some(Blame::Room));
    }

    #[test]
    fn a_page_of_who_stands_before_the_store_is_not_a_missing_object() {
        let cleaned = |source: &str| {
            let error = Error::NotFound { path: "x".to_owned(), source: source.into() };
            cleaned(error, &[])
        };
        for missing in ["404 Not Found: ", "404 Not Found: <Error><Code>NoSuchKey</Code></Error>"] {
            assert!(matches!(cleaned(missing), Error::NotFound { .. }), "{missing}");
        }
        for other in [
            "404 Not Found: 404 page not found",
            "404 Not Found: <html>there is no such page</html>",
            "404 Not Found: <Error><Code>NoSuchUpload</Code></Error>",
        ] {
            let error = cleaned(other);
            assert!(matches!(error, Error::Generic { .. }), "{error:?}");
            assert_eq!(Answer::in_chain(&error).and_then(Answer::blame), None);
        }
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
