//! The replicated state: tables over any [`flotilla_base::store`], commands, `apply`, queries. Deterministic: no clock, no
//! randomness, no I/O of its own, no `HashMap`.
//!
//! Readers hold a published [`View`]: its small part is parsed (rules, templates, settings), its large part is
//! [`Tables`] (repositories, tags, images, manifests, blobs), by key. The one writer is `consensus`.
//!
//! Invariants: equal applied index and cluster version, equal [`StateHash`] on every node (9); a frozen tag does not move
//! (5); an import moves a tag only from the version it was read at (14); a command that is not understood stops the
//! node (18); state time never goes back (19).

mod apply;
mod command;
mod format;
mod hash;
mod meta;
mod overlay;
mod records;
mod tables;
#[cfg(test)]
mod tests;
mod view;

pub use apply::{ApplyError, apply};
pub use command::{
    COMMAND_LIMIT, CacheRuleUpdate, Command, CommandBatch, Founding, IdempotencyKey, ImageDeletion, ImportImage,
    LinkBlob, Op, Outcome, PART_LIMIT, Reply, TagUpdate, TemplateSettingsUpdate, TemplateUpdate, Use,
};
pub use format::{BOOKKEEPING, TABLES, unreadable};
pub use hash::StateHash;
pub use meta::{CLUSTER_VERSION, Meta};
pub use overlay::{Changes, Overlay};
pub use records::{BlobRecord, LinkRecord, ManifestRecord, Placement, TagRecord};
pub use tables::Tables;
pub use view::View;
