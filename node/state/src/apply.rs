//! One arm per operation; each family in a file of its own (`apply/rules.rs`, …).
//!
//! Invariant: an operation decides everything before it writes anything, so that a refused one leaves no trace but its
//! kept reply.

mod blobs;
mod cluster;
mod deletion;
mod images;
mod import;
mod once;
mod repositories;
mod robots;
mod rules;
mod secrets;
mod templates;
mod time;
mod usage;

use flotilla_base::{
    codec::{self, CodecError},
    store::{StoreError, Table},
};
use flotilla_registry::Refusal;
use serde::Serialize;

use crate::{
    COMMAND_LIMIT, Command, CommandBatch, Meta, Op, Outcome, Overlay, Reply, Tables,
    command::COMMAND_VERSION,
    format::{KEY_COUNTERS, KEY_META, META},
    meta::Counters,
};

/// What stops the node. A refusal is no such thing: it is an answer, the same on every node.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the state's store failed")]
    Store(#[from] StoreError),
    #[error("the log holds a command of version {0}, which this program does not know: upgrade it")]
    Unknown(u8),
    #[error("a committed command cannot be read: upgrade this program, or restore this node from the others")]
    Undecodable(#[source] CodecError),
}

/// Applies one log entry (as encoded by [`CommandBatch::encode`]); one reply per command, in order. Never panics,
/// whatever the bytes are.
///
/// # Errors
/// [`ApplyError`]: the node must stop applying. The overlay is then void.
pub fn apply(overlay: &mut Overlay<'_>, entry: &[u8]) -> Result<Vec<Reply>, ApplyError> {
    let batch = match codec::decode_version::<CommandBatch>(COMMAND_VERSION, COMMAND_LIMIT, entry) {
        Ok(batch) => batch,
        Err(CodecError::Version { found, .. }) => return Err(ApplyError::Unknown(found)),
        Err(error) => return Err(ApplyError::Undecodable(error)),
    };
    let (meta, counters) = (overlay.tables().meta()?, overlay.tables().counters()?);
    let mut applier = Applier { overlay, meta, counters };
    let replies = if applier.advance(&batch)? {
        let single = batch.commands.len() == 1;
        batch.commands.into_iter().map(|command| applier.command(command, single)).collect::<Result<_, _>>()?
    } else {
        batch.commands.iter().map(|_| Err(Refusal::TimeStep)).collect()
    };
    let Applier { overlay, meta, counters } = applier;
    overlay.put(META, KEY_META.to_vec(), &meta)?;
    overlay.put(META, KEY_COUNTERS.to_vec(), &counters)?;
    Ok(replies)
}

/// One entry while it is applied: the rows, and the numbers that go back into them at its end.
struct Applier<'o, 'b> {
    overlay: &'o mut Overlay<'b>,
    meta: Meta,
    counters: Counters,
}

/// Why an operation ends early.
enum Halt {
    /// An answer; the next operation goes on.
    Refused(Refusal),
    Stop(ApplyError),
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Stop(error.into())
    }
}

impl Applier<'_, '_> {
    fn command(&mut self, command: Command, single: bool) -> Result<Reply, ApplyError> {
        let Command { id, acked_below, by, idempotency, op } = command;
        if let Some(reply) = self.reply_of_before(id, acked_below)? {
            return Ok(reply);
        }
        let mark = idempotency.map(|key| once::mark(&by, &key));
        let reply = match self.outcome_of_before(mark.as_ref())? {
            Some(outcome) => Ok(outcome),
            None => match self.op(op, single) {
                Ok(outcome) => {
                    self.keep_outcome(mark, &outcome)?;
                    Ok(outcome)
                }
                Err(Halt::Refused(refusal)) => Err(refusal),
                Err(Halt::Stop(error)) => return Err(error),
            },
        };
        self.keep_reply(id, &reply)?;
        Ok(reply)
    }

    fn op(&mut self, op: Op, single: bool) -> Result<Outcome, Halt> {
        match op {
            Op::Found(founding) => self.found(*founding),
            Op::Tick => self.tick(),
            // Alone in its entry it has moved the time already.
            Op::AdvanceTime { .. } if single => Ok(Outcome::Done),
            Op::AdvanceTime { .. } => Err(Refusal::TimeStep.into()),
            Op::RaiseClusterVersion { to } => self.raise_cluster_version(to),
            Op::PutNode(node) => self.put_node(&node),
            Op::PutAccessKey(key) => self.change_access_key(*key),
            Op::PutAccountSetting { name, value } => self.put_account_setting(name, value),
            Op::CreateCacheRule(rule) => self.create_rule(*rule, None),
            Op::UpdateCacheRule(update) => self.update_rule(update),
            Op::DeleteCacheRule { prefix } => self.delete_rule(prefix),
            Op::CreateTemplate(template) => self.create_template(*template),
            Op::UpdateTemplate(update) => self.update_template(*update),
            Op::DeleteTemplate { prefix } => self.delete_template(prefix),
            Op::CreateRepository { name, settings } => self.create_repository(name, *settings),
            Op::DeleteRepository { name, force } => self.delete_repository(name, force),
            Op::PutMutability { name, mutability } => {
                self.change_repository(name, |settings| settings.mutability = mutability)
            }
            Op::PutScanOnPush { name, scan_on_push } => {
                self.change_repository(name, |settings| settings.scan_on_push = scan_on_push)
            }
            Op::TagRepository { name, put, remove } => self.tag_repository(name, put, &remove),
            Op::PutManifestPart { digest, index, bytes } => self.put_part(digest, index, bytes),
            Op::ImportImage(import) => self.import_image(*import),
            Op::LinkBlob(link) => self.link_blob(link),
            Op::DeleteImages { repository, images } => self.delete_images(repository, images),
            Op::RecordUse(uses) => self.record_use(uses),
            Op::PutCacheRuleOptions { prefix, expect_version, options, revalidate_after } => {
                self.put_rule_options(prefix, expect_version, *options, revalidate_after)
            }
            Op::PutSecret { expect_revision, secret } => self.put_secret(expect_revision, *secret),
            Op::DeleteSecret { name, expect_revision } => self.delete_secret(&name, expect_revision),
            Op::CreateRobot { robot, key } => self.create_robot(*robot, *key),
            Op::DeleteRobot { name } => self.delete_robot(name),
            Op::DeleteAccessKey { id } => self.delete_access_key(id),
            Op::CreateCacheRuleWithOptions { rule, options } => self.create_rule(*rule, Some(*options)),
        }
    }

    fn tables(&self) -> Tables<'_> {
        self.overlay.tables()
    }

    fn put<T: Serialize>(&mut self, table: Table, key: Vec<u8>, record: &T) -> Result<(), StoreError> {
        self.overlay.put(table, key, record)
    }

    fn remove(&mut self, table: Table, key: Vec<u8>) -> Result<(), StoreError> {
        self.overlay.remove(table, key)
    }
}
