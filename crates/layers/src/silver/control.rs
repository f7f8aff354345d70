//! The records of a batch that concern the whole entity: truncates, ends of snapshots, an
//! operator's decisions.

use alluvium_lake::index::{CurrentEntry, IndexError, KeyIndex, Slice};
use alluvium_model::change::Decision;
use alluvium_model::metadata::{EntitySpec, SnapshotOrder, SnapshotPolicy};
use alluvium_model::{Control, Message, Op, Position, Quarantined};

use super::Shape;
use super::closing::{Closing, Closings};
use super::gather::Incoming;

/// What a batch does to the entity as a whole.
pub(super) struct Controls {
    /// The closings after the batch.
    pub(super) closings: Closings,
    /// Whether they differ from those before.
    pub(super) changed: bool,
    /// The sequences at which more is closed than before.
    touched: Vec<Vec<u8>>,
    /// The end of a snapshot that nobody has confirmed, and the record's index.
    unconfirmed: Option<(Closing, u32)>,
    /// Records that cannot be applied.
    pub(super) quarantined: Vec<Quarantined>,
}

/// The open rows that a closing finds.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    open: u64,
    closes: u64,
}

impl Controls {
    /// Reads the records of a batch that concern the whole entity. `closings` are those before it,
    /// with what the batch's schema messages altered.
    pub(super) fn read(
        shape: &Shape,
        closings: Closings,
        incoming: &Incoming,
        batch: &str,
    ) -> Self {
        let mut controls = Self {
            closings,
            changed: false,
            touched: Vec::new(),
            unconfirmed: None,
            quarantined: Vec::new(),
        };
        if limits_scope(&shape.entity) {
            controls.note_scopes(incoming);
        }
        for (message, decoded) in incoming.messages.iter().zip(&incoming.decoded) {
            let new = |index, sequence: &alluvium_model::Sequence, changed_at, snapshot| Closing {
                sequence: sequence.encoded().to_vec(),
                snapshot,
                scopes: None,
                position: message.position(index),
                changed_at,
                ingested_at: message.published_at_us,
                run: run_of(message).to_owned(),
                batch: batch.to_owned(),
                at: sequence.first(),
            };
            for record in &decoded.truncates {
                let closing = new(record.index, &record.sequence, record.changed_at, false);
                controls.add(closing);
            }
            for (index, control) in &decoded.controls {
                match control {
                    Control::SnapshotEnd { sequence, .. } => {
                        match shape.decoder.carried(sequence) {
                            Ok(sequence) => {
                                let closing = new(*index, &sequence, None, true);
                                controls.snapshot_ended(&shape.entity, closing, *index);
                            }
                            Err(error) => {
                                let reason = format!("the end of a snapshot: {error}");
                                controls.reject(message, *index, "bad_sequence", reason);
                            }
                        }
                    }
                    Control::Decision { decision, position } => {
                        controls.decided(*decision, position);
                    }
                    // Has been applied to the table's columns.
                    Control::Schema { .. } => {}
                }
            }
        }
        controls
    }

    fn note_scopes(&mut self, incoming: &Incoming) {
        for decoded in &incoming.decoded {
            for row in decoded.rows.iter().filter(|row| row.op == Op::Read) {
                let sequence = decoded.sequence(row);
                if self.closings.contains(sequence, row.hashes.scope) {
                    self.touched.push(sequence.to_vec());
                }
            }
        }
    }

    fn add(&mut self, closing: Closing) {
        let sequence = closing.sequence.clone();
        if self.closings.add(closing) {
            self.touched.push(sequence);
        }
    }

    fn snapshot_ended(&mut self, entity: &EntitySpec, mut closing: Closing, index: u32) {
        let scopes = self.closings.take_scopes(&closing.sequence);
        if entity.snapshot.out_of_order == SnapshotOrder::Skip {
            if self.closings.is_older_snapshot(&closing.sequence) {
                return;
            }
            self.closings.snapshot_ended(&closing.sequence);
        }
        if !entity.snapshot.retire_absent {
            return;
        }
        if limits_scope(entity) {
            let mut scopes = scopes;
            scopes.sort_unstable();
            closing.scopes = Some(scopes);
        }
        let mut there = self.closings.at(&closing.sequence);
        if there.any(|n| self.closings.all()[n].snapshot) {
            return;
        }
        self.unconfirmed = Some((closing.clone(), index));
        self.add(closing);
    }

    fn decided(&mut self, decision: Decision, position: &Position) {
        let Some(held) = self.closings.take_held(position) else { return };
        match decision {
            Decision::Approve => self.add(held),
            Decision::Discard => {}
        }
    }

    fn reject(&mut self, message: &Message, index: u32, code: &str, reason: String) {
        let line = message.lines().nth(index as usize).unwrap_or_default();
        self.quarantined.push(Quarantined {
            position: message.position(index),
            code: code.to_owned(),
            reason,
            bytes: line.to_vec(),
        });
    }

    /// The earliest sequence at which more is closed than before.
    pub(super) fn touched(&self) -> Option<&[u8]> {
        self.touched.iter().map(Vec::as_slice).min()
    }

    /// The keys of the index that are concerned. The end of a snapshot that would close too much is
    /// held instead.
    pub(super) fn concerned(
        &mut self,
        shape: &Shape,
        index: &KeyIndex,
        incoming: &Incoming,
    ) -> Result<Vec<(u128, Slice)>, IndexError> {
        if self.touched.is_empty() {
            return Ok(Vec::new());
        }
        let mut keys = Vec::new();
        let mut found = Found::default();
        for state in index.states() {
            let (key, bytes) = state?;
            let state = CurrentEntry::parse(&bytes).ok_or(IndexError::Damaged)?;
            if self.concerns(&state, &mut found) {
                keys.push((key, bytes));
            }
        }
        let Some((closing, record)) = self.unconfirmed.take() else { return Ok(keys) };
        if !too_much(&shape.entity.snapshot, found) {
            return Ok(keys);
        }
        self.hold(closing, record, found, &shape.entity.snapshot, incoming);
        Ok(Vec::new())
    }

    /// Whether what is new may alter the versions of a key in this state.
    fn concerns(&self, state: &CurrentEntry<'_>, found: &mut Found) -> bool {
        let mut any = false;
        for sequence in &self.touched {
            let known = sequence.as_slice().cmp(state.known);
            let scope = state.open.map(|open| open.hashes.scope);
            let mut at = self.closings.at(sequence);
            let concerned =
                scope.is_some_and(|scope| at.any(|n| self.closings.all()[n].concerns(scope)));
            let closes = concerned
                && known.is_gt()
                && state.open.is_some_and(|open| open.opener_op != Op::Delete);
            found.open += u64::from(concerned);
            found.closes += u64::from(closes);
            let truncated = self.closings.at(sequence).any(|n| !self.closings.all()[n].snapshot);
            any |= closes || known.is_lt() || (known.is_eq() && (truncated || !state.read));
        }
        any
    }

    fn hold(
        &mut self,
        closing: Closing,
        record: u32,
        found: Found,
        policy: &SnapshotPolicy,
        incoming: &Incoming,
    ) {
        let reason = format!(
            "the snapshot would close {} of {} open rows, more than a share of {} (at least {} \
             rows): approve it if that is right, or discard it",
            found.closes, found.open, policy.max_close_share, policy.min_close_rows
        );
        let message = incoming.messages.iter().find(|m| m.offset == closing.position.offset);
        if let Some(message) = message.cloned() {
            self.reject(&message, record, "snapshot_held", reason);
        }
        self.closings.remove(&closing);
        self.closings.hold(closing);
        self.touched.clear();
    }
}

fn too_much(policy: &SnapshotPolicy, found: Found) -> bool {
    found.closes >= policy.min_close_rows.max(1)
        && found.closes as f64 > policy.max_close_share * found.open as f64
}

fn limits_scope(entity: &EntitySpec) -> bool {
    entity.snapshot.retire_absent && !entity.snapshot.scope.is_empty()
}

/// The run that a message belongs to.
pub(super) fn run_of(message: &Message) -> &str {
    message.headers.get(alluvium_wire::headers::RUN).unwrap_or_default()
}
