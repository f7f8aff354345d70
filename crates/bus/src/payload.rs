//! What a message's payload tells by itself, where nobody says it beside.

/// The records of a message that somebody else wrote: its lines.
pub(crate) fn lines(payload: &[u8]) -> u32 {
    let body = payload.strip_suffix(b"\n").unwrap_or(payload);
    let ends = body.iter().filter(|byte| **byte == b'\n').count();
    u32::try_from(ends + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_as_many_records_as_lines_with_and_without_a_last_line_feed() {
        for (payload, expected) in
            [(&b"{}"[..], 1), (b"{}\n", 1), (b"{}\n{}", 2), (b"{}\n{}\n", 2), (b"", 1)]
        {
            assert_eq!(lines(payload), expected, "{payload:?}");
        }
    }
}
