//! Validations and pulls: clocks that only move forward, and only on what is still the same.

use super::{Applier, Halt};
use crate::{
    Outcome, TagRecord, Use,
    format::{IMAGES, TAGS, digest_key, tag_key},
};

impl Applier<'_, '_> {
    /// What is unknown by now is left out. No node's clock gets ahead of state time.
    pub(super) fn record_use(&mut self, uses: Use) -> Result<Outcome, Halt> {
        for (name, tag, version, at) in uses.validated {
            match self.tables().tag(&name, &tag)? {
                Some(held) if held.version == version => {
                    let validated_at = held.validated_at.max(at.min(self.meta.time));
                    self.put(TAGS, tag_key(&name, &tag), &TagRecord { validated_at, ..held })?;
                }
                _ => {}
            }
        }
        for (name, digest, at) in uses.pulled {
            if let Some(mut image) = self.tables().image(&name, &digest)? {
                image.last_pulled_at = image.last_pulled_at.max(Some(at.min(self.meta.time)));
                self.put(IMAGES, digest_key(&name, &digest), &image)?;
            }
        }
        Ok(Outcome::Done)
    }
}
