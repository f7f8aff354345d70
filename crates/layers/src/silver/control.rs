//! The records of a batch that concern the whole entity: truncates, ends of snapshots, an
//! operator's decisions.

use alluvium_lake::index::{CurrentEntry, IndexError, KeyIndex, Slice};
use alluvium_model::change::Decision;
use alluvium_model::metadata::{Deletes, EntitySpec, SnapshotOrder, SnapshotPolicy};
use alluvium_model::{Control, Message, Op, Position, Quarantined, Sequence};

use super::Shape;
use super::closing::{Closing, Closings};
use super::gather::Incoming;
use super::late::Late;
use crate::decode::{Truncate, control_id};

/// What a batch does to the entity as a whole.
pub(super) struct Controls {
    /// The closings after the batch.
    pub(super) closings: Closings,
    /// Whether they differ from those before.
    pub(super) changed: bool,
    /// The sequences at which more is closed than before.
    touched: Vec<Vec<u8>>,
    /// The keys that all of those concern, if they have been looked for.
    keys: Option<Vec<(u128, Slice)>>,
    /// Records that cannot be applied.
    pub(super) quarantined: Vec<Quarantined>,
}

/// The open rows that a closing finds.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    open: u64,
    closes: u64,
}

/// A batch, to read what concerns the whole entity from.
pub(super) struct ControlBatch<'b> {
    pub(super) shape: &'b Shape,
    pub(super) incoming: &'b Incoming,
    pub(super) late: &'b Late,
    pub(super) id: &'b str,
}

impl ControlBatch<'_> {
    fn id_of(&self, message: &Message, record: u32) -> Option<String> {
        control_id(&self.shape.entity.id(), message, record)
    }

    fn truncate(&self, message: &Message, record: &Truncate) -> Closing {
        self.closing(message, record.index, &record.sequence, record.changed_at, false)
    }

    fn closing(
        &self,
        message: &Message,
        record: u32,
        sequence: &Sequence,
        changed_at: Option<i64>,
        snapshot: bool,
    ) -> Closing {
        Closing {
            sequence: sequence.encoded().to_vec(),
            snapshot,
            scopes: None,
            position: message.position(record),
            changed_at,
            ingested_at: message.published_at_us,
            run: run_of(message).to_owned(),
            batch: self.id.to_owned(),
            id: None,
            at: sequence.first(),
        }
    }
}

impl Controls {
    /// Reads the records of a batch that concern the whole entity. `closings` are those before it,
    /// with what the batch's schema messages altered.
    pub(super) fn read(
        batch: &ControlBatch<'_>,
        closings: Closings,
        index: &KeyIndex,
    ) -> Result<Self, IndexError> {
        let mut controls = Self {
            closings,
            changed: false,
            touched: Vec::new(),
            keys: None,
            quarantined: Vec::new(),
        };
        if limits_scope(&batch.shape.entity) {
            controls.note_scopes(batch);
        }
        let (incoming, by_arrival) = (batch.incoming, batch.shape.is_by_arrival());
        for (n, (message, decoded)) in (0..).zip(incoming.messages.iter().zip(&incoming.decoded)) {
            for record in &decoded.truncates {
                match batch.late.why(n, record.index) {
                    Some((code, reason)) => controls.reject(message, record.index, code, reason),
                    None if by_arrival && controls.closings.knows(record.sequence.encoded()) => {}
                    None => controls.add(batch.truncate(message, record)),
                }
            }
            for (record, control) in &decoded.controls {
                controls.take(batch, (n, message, *record), control, index)?;
            }
        }
        Ok(controls)
    }

    /// Does what a control record says.
    fn take(
        &mut self,
        batch: &ControlBatch<'_>,
        (n, message, record): (u32, &Message, u32),
        control: &Control,
        index: &KeyIndex,
    ) -> Result<(), IndexError> {
        let late = batch.late.why(n, record);
        match control {
            Control::SnapshotEnd { .. } if self.is_heard(batch, message, record) => {}
            Control::SnapshotEnd { sequence, .. } => match batch.shape.decoder.carried(sequence) {
                Ok(sequence) => {
                    let closing = batch.closing(message, record, &sequence, None, true);
                    let scopes = self.closings.take_scopes(&closing.sequence);
                    if let Some((code, reason)) = late {
                        self.reject(message, record, code, reason);
                    } else if let Some(closing) = self.ended(batch.shape, closing, scopes) {
                        let id = batch.id_of(message, record);
                        let closing = Closing { id, ..closing };
                        self.close_or_hold(batch.shape, message, closing, index)?;
                    }
                }
                Err(error) => {
                    let reason = format!("the end of a snapshot: {error}");
                    self.reject(message, record, "bad_sequence", reason);
                }
            },
            Control::Decision { decision, position } => match late {
                Some((code, reason)) => self.reject(message, record, code, reason),
                None => self.decided(*decision, position),
            },
            // Has been applied to the table's columns.
            Control::Schema { .. } => {}
        }
        Ok(())
    }

    /// Whether a record has had its effect, and stands on the topic once more.
    fn is_heard(&self, batch: &ControlBatch<'_>, message: &Message, record: u32) -> bool {
        let heard = &self.closings.heard;
        !heard.is_empty() && batch.id_of(message, record).is_some_and(|id| heard.contains(&id))
    }

    fn note_scopes(&mut self, batch: &ControlBatch<'_>) {
        for (n, decoded) in (0..).zip(&batch.incoming.decoded) {
            for row in decoded.rows.iter().filter(|row| row.op == Op::Read) {
                let sequence = decoded.sequence(row);
                if batch.late.contains(n, row.index) {
                    continue;
                }
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
            self.keys = None;
        }
    }

    /// The closing that the end of a snapshot is; none if it closes nothing, or is known.
    fn ended(&mut self, shape: &Shape, mut closing: Closing, scopes: Vec<u64>) -> Option<Closing> {
        let entity = &shape.entity;
        if entity.snapshot.out_of_order == SnapshotOrder::Skip {
            if self.closings.is_older_snapshot(&closing.sequence) {
                return None;
            }
            self.closings.snapshot_ended(&closing.sequence);
        }
        if limits_scope(entity) {
            let mut scopes = scopes;
            scopes.sort_unstable();
            closing.scopes = Some(scopes);
        }
        let is_known = self.closings.knows_end(&closing.sequence);
        (entity.snapshot.retire_absent && !is_known).then_some(closing)
    }

    /// Closes what a snapshot did not contain. One that would close too much is held instead, by
    /// itself: what came before it in the batch has taken effect.
    fn close_or_hold(
        &mut self,
        shape: &Shape,
        message: &Message,
        closing: Closing,
        index: &KeyIndex,
    ) -> Result<(), IndexError> {
        self.add(Closing { id: None, ..closing.clone() });
        let tombstones = shape.entity.deletes == Deletes::Tombstone;
        let mut found = Found::default();
        let keys = self.walk(index, |controls, state| {
            controls.count(state, &closing, tombstones, &mut found);
        })?;
        let policy = &shape.entity.snapshot;
        if !too_much(policy, found) {
            self.keys = Some(keys);
            return Ok(());
        }
        let reason = format!(
            "the snapshot would close {} of {} open rows, more than a share of {} (at least {} \
             rows): approve it if that is right, or discard it",
            found.closes, found.open, policy.max_close_share, policy.min_close_rows
        );
        self.reject(message, closing.position.index, "snapshot_held", reason);
        self.touched.pop();
        self.closings.remove(&closing);
        self.closings.hold(closing);
        Ok(())
    }

    fn decided(&mut self, decision: Decision, position: &Position) {
        let Some(held) = self.closings.take_held(position) else { return };
        match decision {
            Decision::Approve => self.add(Closing { id: None, ..held }),
            Decision::Discard => self.closings.heard.extend(held.id),
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

    /// The keys of the index that are concerned.
    pub(super) fn concerned(&mut self, index: &KeyIndex) -> Result<Vec<(u128, Slice)>, IndexError> {
        match self.keys.take() {
            Some(keys) => Ok(keys),
            None if self.touched.is_empty() => Ok(Vec::new()),
            None => self.walk(index, |_, _| {}),
        }
    }

    /// Goes through the states of all keys; gives those that are concerned.
    fn walk(
        &self,
        index: &KeyIndex,
        mut each: impl FnMut(&Self, &CurrentEntry<'_>),
    ) -> Result<Vec<(u128, Slice)>, IndexError> {
        let mut keys = Vec::new();
        for state in index.states() {
            let (key, bytes) = state?;
            let state = CurrentEntry::parse(&bytes).ok_or(IndexError::Damaged)?;
            each(self, &state);
            if self.concerns(&state) {
                keys.push((key, bytes));
            }
        }
        Ok(keys)
    }

    /// Whether what is new may alter the versions of a key in this state.
    fn concerns(&self, state: &CurrentEntry<'_>) -> bool {
        self.touched.iter().any(|sequence| {
            let known = sequence.as_slice().cmp(state.known);
            let truncated = || self.closings.at(sequence).any(|n| !self.closings.all()[n].snapshot);
            self.closes(sequence, state)
                || known.is_lt()
                || (known.is_eq() && (!state.read || truncated()))
        })
    }

    /// Whether what closes at a sequence closes the open version of a key in this state.
    fn closes(&self, sequence: &[u8], state: &CurrentEntry<'_>) -> bool {
        let Some(open) = state.open.filter(|open| open.opener_op != Op::Delete) else {
            return false;
        };
        let mut at = self.closings.at(sequence);
        sequence > state.known && at.any(|n| self.closings.all()[n].concerns(open.hashes.scope))
    }

    /// Counts what `closing`, the newest of all, finds of a key in this state.
    fn count(
        &self,
        state: &CurrentEntry<'_>,
        closing: &Closing,
        tombstones: bool,
        found: &mut Found,
    ) {
        let Some(open) = state.open.filter(|open| closing.concerns(open.hashes.scope)) else {
            return;
        };
        let before = self.touched.split_last().map_or(&[][..], |(_, before)| before);
        let is_closed = before.iter().any(|sequence| self.closes(sequence, state));
        found.open += u64::from(!is_closed || tombstones);
        let is_row = open.opener_op != Op::Delete && !is_closed;
        found.closes += u64::from(is_row && closing.sequence.as_slice() > state.known);
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
