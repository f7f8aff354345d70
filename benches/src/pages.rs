//! A file of lines as pages of messages, the way `alluvium publish` makes them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use alluvium_model::{Clock, EncodedPage, EntityId, SystemClock};
use alluvium_wire::{LineFormat, PublishContext, encode_lines};
use bytes::Bytes;

/// What is published as one page.
pub(crate) const PAGE_BYTES: usize = 4 << 20;

/// The pages of a file.
pub(crate) struct Pages {
    input: BufReader<File>,
    page_bytes: usize,
    format: LineFormat,
    entity: EntityId,
    delivery: String,
    ordinal: u64,
}

impl Pages {
    /// Of whole lines; a page ends with the line in which it reaches `page_bytes`.
    pub(crate) fn of(file: &Path, entity: &EntityId, page_bytes: usize) -> anyhow::Result<Self> {
        Ok(Self {
            input: BufReader::with_capacity(1 << 20, File::open(file)?),
            page_bytes,
            format: LineFormat::Map("op=op,sequence=seq,row=after".parse()?),
            entity: entity.clone(),
            delivery: SystemClock.now().to_string(),
            ordinal: 0,
        })
    }

    fn lines(&mut self) -> anyhow::Result<Option<Bytes>> {
        let mut lines = Vec::with_capacity(self.page_bytes + 4_096);
        self.input.by_ref().take(self.page_bytes as u64).read_to_end(&mut lines)?;
        self.input.read_until(b'\n', &mut lines)?;
        Ok((!lines.is_empty()).then(|| Bytes::from(lines)))
    }

    fn page(&mut self, lines: Bytes) -> EncodedPage {
        let context = PublishContext {
            entity: self.entity.clone(),
            run: None,
            traceparent: None,
            delivery: self.delivery.clone(),
            ordinal: self.ordinal,
            now: SystemClock.now(),
        };
        let page = EncodedPage { messages: encode_lines(lines, &self.format, &context) };
        self.ordinal += page.records();
        page
    }
}

impl Iterator for Pages {
    type Item = anyhow::Result<EncodedPage>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.lines() {
            Ok(lines) => lines.map(|lines| Ok(self.page(lines))),
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_one_byte_is_a_page_of_one_line_and_no_line_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lines");
        std::fs::write(&file, "{\"seq\": 1}\n{\"seq\": 2}\n{\"seq\": 3}\n").unwrap();
        let entity = "bench.customers".parse().unwrap();
        let records = |page_bytes| -> Vec<u64> {
            let pages = Pages::of(&file, &entity, page_bytes).unwrap();
            pages.map(|page| page.unwrap().records()).collect()
        };
        assert_eq!(records(1), [1, 1, 1]);
        assert_eq!(records(PAGE_BYTES), [3]);
    }
}
