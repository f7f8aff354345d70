//! A bucket whose puts have one of two outcomes.
//!
//! An answer may be lost on its way: who asks again is then told that there is such an object,
//! which is his own. So after a refusal, and after a failure that tells nothing, it is looked at
//! what is there.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use alluvium_model::Secret;
use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use super::answer::{Answer, cleaned};
use super::upload::Upload;

/// A larger object is sent in parts, unless there may be none of its name yet.
const LARGE: usize = 16 << 20;
/// So large is a part; all are of one size but the last, as some stores want it.
const PART: usize = 8 << 20;
/// So many parts are sent at once.
const PARALLEL_PARTS: usize = 4;
/// So often it is tried to create an object where none is after all.
const TRIES: u32 = 4;
/// The wait before the second try; each further one is twice as long.
const WAIT: Duration = Duration::from_millis(100);

/// A bucket. Every put is durable when it returns, and `PutMode::Create` says `AlreadyExists` only
/// of an object with other bytes. What errors say holds no credentials.
pub(in crate::store) struct Bucket {
    name: String,
    inner: Arc<dyn ObjectStore>,
    secrets: Arc<[Secret]>,
}

/// What stands under a name.
enum There {
    Nothing,
    /// The very bytes that were to be written.
    Same(PutResult),
    Another,
}

impl Bucket {
    pub(super) fn new(name: &str, inner: Arc<dyn ObjectStore>, secrets: Vec<Secret>) -> Self {
        Self { name: name.to_owned(), inner, secrets: secrets.into() }
    }

    async fn create(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let mut tries = 0;
        loop {
            let put = self.inner.put_opts(location, payload.clone(), options.clone()).await;
            let error = match put.map_err(|e| self.cleaned(e)) {
                Ok(put) => return Ok(put),
                Err(error) => error,
            };
            let refused = matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. });
            if !refused && !tells_nothing(&error) {
                return Err(error);
            }
            match self.what_is_at(location, &payload).await {
                Ok(There::Same(put)) => return Ok(put),
                Ok(There::Another) => {
                    let path = location.to_string();
                    return Err(Error::AlreadyExists { path, source: Box::new(error) });
                }
                // Two who wrote at once were both refused, or what was sent never came.
                Ok(There::Nothing) if tries + 1 < TRIES => {
                    tokio::time::sleep(WAIT * 2u32.pow(tries)).await;
                    tries += 1;
                }
                Ok(There::Nothing) => {
                    return Err(Error::Generic { store: "S3", source: Box::new(error) });
                }
                Err(why) => return Err(why),
            }
        }
    }

    async fn what_is_at(&self, location: &Path, payload: &PutPayload) -> Result<There> {
        let got = match self.get_opts(location, GetOptions::default()).await {
            Ok(got) => got,
            Err(Error::NotFound { .. }) => return Ok(There::Nothing),
            Err(error) => return Err(error),
        };
        if got.meta.size != payload.content_length() as u64 {
            return Ok(There::Another);
        }
        let put = PutResult { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let mut bytes = got.bytes().await?;
        for chunk in payload {
            if bytes.len() < chunk.len() || bytes.split_to(chunk.len()) != *chunk {
                return Ok(There::Another);
            }
        }
        Ok(There::Same(put))
    }

    async fn put_in_parts(&self, location: &Path, payload: PutPayload) -> Result<PutResult> {
        let mut upload = self.put_multipart_opts(location, PutMultipartOptions::default()).await?;
        let parts: Vec<_> =
            Parts(payload.into_iter().collect()).map(|part| upload.put_part(part)).collect();
        let sent = stream::iter(parts).buffer_unordered(PARALLEL_PARTS).try_collect::<()>().await;
        let put = match sent {
            Ok(()) => upload.complete().await,
            Err(error) => Err(error),
        };
        if put.is_err() {
            // Waited for: a process that ends on this error gives up nothing after it. What fails
            // is tried once more when the upload is dropped, which tells of it.
            upload.abort().await.ok();
        }
        put
    }

    fn cleaned(&self, error: Error) -> Error {
        cleaned(error, &self.secrets)
    }

    fn cleaned_stream<T: 'static>(
        &self,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let secrets = Arc::clone(&self.secrets);
        stream.map(move |item| item.map_err(|e| cleaned(e, &secrets))).boxed()
    }
}

/// Whether what was asked for may have been done all the same.
fn tells_nothing(error: &Error) -> bool {
    let blamed = || Answer::in_chain(error).and_then(Answer::blame);
    matches!(error, Error::Generic { .. }) && blamed().is_none()
}

/// A payload cut into parts, without copying.
struct Parts(std::collections::VecDeque<Bytes>);

impl Iterator for Parts {
    type Item = PutPayload;

    fn next(&mut self) -> Option<PutPayload> {
        let (mut part, mut room) = (Vec::new(), PART);
        while let Some(mut chunk) = self.0.pop_front() {
            if chunk.len() > room {
                self.0.push_front(chunk.split_off(room));
            }
            room -= chunk.len();
            if chunk.has_remaining() {
                part.push(chunk);
            }
            if room == 0 {
                break;
            }
        }
        (!part.is_empty()).then(|| part.into_iter().collect())
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.name).finish()
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket {}", self.name)
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        match options.mode {
            PutMode::Create => self.create(location, payload, options).await,
            PutMode::Overwrite if payload.content_length() > LARGE => {
                self.put_in_parts(location, payload).await
            }
            _ => {
                let put = self.inner.put_opts(location, payload, options).await;
                put.map_err(|e| self.cleaned(e))
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, options).await;
        let upload = upload.map_err(|e| self.cleaned(e))?;
        let (store, secrets) = (Arc::clone(&self.inner), Arc::clone(&self.secrets));
        Ok(Box::new(Upload::new(store, secrets, location.clone(), upload)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.inner.get_opts(location, options).await.map_err(|e| self.cleaned(e))?;
        // What breaks off is asked for anew, and that may be refused.
        let payload = match got.payload {
            GetResultPayload::Stream(bytes) => GetResultPayload::Stream(self.cleaned_stream(bytes)),
            file => file,
        };
        Ok(GetResult { payload, ..got })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await.map_err(|e| self.cleaned(e))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.cleaned_stream(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.cleaned_stream(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.cleaned_stream(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await.map_err(|e| self.cleaned(e))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await.map_err(|e| self.cleaned(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_cut_into_parts_of_one_size() {
        let chunks = [3, PART - 1, 2 * PART + 5, 0, 7].map(|n| Bytes::from(vec![n as u8; n]));
        let all: Vec<u8> = chunks.iter().flatten().copied().collect();
        let parts: Vec<PutPayload> = Parts(chunks.into_iter().collect()).collect();
        let lengths: Vec<usize> = parts.iter().map(PutPayload::content_length).collect();
        assert_eq!(lengths, [PART, PART, PART, 14]);
        let joined: Vec<u8> = parts.iter().flatten().flatten().copied().collect();
        assert!(joined == all);
    }
}
