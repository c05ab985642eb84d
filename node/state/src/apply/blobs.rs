//! Links of blobs to repositories: the only thing that lets a blob be served through one.

use flotilla_base::NodeId;
use flotilla_registry::Refusal;

use super::{Applier, Halt, import::Destination};
use crate::{
    LinkBlob, LinkRecord, Outcome, Placement,
    format::{LINKS, digest_key},
};

impl Applier<'_, '_> {
    pub(super) fn link_blob(&mut self, link: LinkBlob) -> Result<Outcome, Halt> {
        let LinkBlob { repository: name, expect_incarnation, origin, digest, size, copies } = link;
        let rule = match &origin {
            Some(_) => self.tables().covering_rule(&name)?,
            None => None,
        };
        if let Some(origin) = &origin
            && rule.as_ref().is_none_or(|rule| rule.prefix != origin.rule)
        {
            return Err(Refusal::Moved.into());
        }
        let destination = match (self.tables().repository(&name)?, expect_incarnation, origin) {
            (Some(repository), Some(expected), _) if repository.incarnation == expected => {
                Destination::Existing(repository)
            }
            // It was made meanwhile, by another pull through the same rule.
            (Some(repository), None, Some(_)) => Destination::Existing(repository),
            (None, None, Some(origin)) => {
                let settings = self.settings_from_template(&name)?;
                Destination::New(origin, settings)
            }
            (None, None, None) => return Err(Refusal::NoRepository(name).into()),
            _ => return Err(Refusal::Moved.into()),
        };
        let held = self.tables().blob(&digest)?;
        if held.as_ref().is_some_and(|blob| blob.condemned) {
            return Err(Refusal::Condemned(digest).into());
        }
        // A digest has one size. Whoever measured another one read something else: it must look again, and nothing
        // is recorded.
        if held.as_ref().and_then(|blob| blob.size).is_some_and(|known| known != size) {
            return Err(Refusal::Moved.into());
        }

        let incarnation = self.settle(destination, &name)?.incarnation;
        self.mark_private(&name, rule.as_ref())?;
        let key = digest_key(&name, &digest);
        let is_new = self.tables().link(&name, &digest)?.is_none();
        if is_new {
            let record = LinkRecord { size, linked_at: self.meta.time };
            self.put(LINKS, key, &record)?;
        }
        self.change_blob(&digest, |blob| {
            blob.size = Some(size);
            blob.links = blob.links.saturating_add(u64::from(is_new));
            add_copies(&mut blob.placement, copies);
        })?;
        Ok(Outcome::Linked { incarnation })
    }
}

fn add_copies(placement: &mut Placement, copies: Vec<NodeId>) {
    if copies.is_empty() {
        return;
    }
    match placement {
        // Its owners have it: they need no help.
        Placement::Placed => {}
        Placement::Cached => *placement = Placement::Copies(sorted(copies)),
        Placement::Copies(known) => *known = sorted([known.as_slice(), &copies].concat()),
    }
}

fn sorted(mut nodes: Vec<NodeId>) -> Vec<NodeId> {
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}
