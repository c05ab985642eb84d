//! Which sealed blobs were used, and which go first when there is no room: a segmented LRU.
//!
//! A blob comes in on *probation* and is *protected* once it was used twice. A **use** is a reader that is opened, or
//! the fill itself; whatever comes within `window_s` of the last counted use belongs to it. So the ranges of one pull,
//! and a fleet that pulls one image at the same moment, are one use: what matters is whether a blob is wanted again
//! later, and a burst tells nothing about that.
//!
//! Invariant: what was asked for once takes no room from what is protected; only what comes back does (see `ghosts`).
//! Protected blobs beyond [`PROTECTED_PERCENT`] of what is held are on probation again, those not used longest first,
//! so that new content always has some room to prove itself in.
//!
//! Everything here is memory and arithmetic; `evict` does the work. About 76 bytes per blob. Times are seconds of the
//! store's own clock; the order within a list is exact, the times are coarse.

use std::collections::{BTreeMap, HashMap, HashSet};

use flotilla_oci::{Algorithm, Digest};

use super::ghosts::Ghosts;

/// Of what is held when room is needed.
const PROTECTED_PERCENT: u64 = 80;
/// Nothing goes that was sealed or counted within this: who waited for the fill is about to open it.
const YOUNG_S: u32 = 5;
/// Slots that one search looks at: a crowd of pinned or young blobs does not hold up a fill.
const LOOKS_MOST: usize = 8_192;
/// Ends a list.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Probation,
    Protected,
    /// Not to be had again, so not evicted; looked at again later.
    Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) digest: Digest,
    pub(super) len: u64,
    pub(super) class: Class,
}

/// What has to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) bytes: u64,
    pub(super) blobs: u64,
}

struct Slot {
    /// Of the hash; the second half of a sha512 is in `tails`.
    head: [u8; 32],
    len: u64,
    older: u32,
    newer: u32,
    used_s: u32,
    class: Class,
    twice: bool,
    long: bool,
}

#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
    bytes: u64,
}

pub(super) struct Uses {
    window_s: u32,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// By the first bytes of the hash. Of two blobs that share them the second is not known here, and stays.
    index: HashMap<[u8; 8], u32>,
    tails: BTreeMap<u32, [u8; 32]>,
    lists: [List; 3],
    ghosts: Ghosts,
}

impl Need {
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }

    fn is_met_by(self, bytes: u64, blobs: u64) -> bool {
        bytes >= self.bytes && blobs >= self.blobs
    }
}

fn short(digest: &Digest) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&digest.hash()[..8]);
    short
}

impl Uses {
    pub(super) fn new(window_s: u32) -> Self {
        Self {
            window_s,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            tails: BTreeMap::new(),
            lists: [List { oldest: NONE, newest: NONE, bytes: 0 }; 3],
            ghosts: Ghosts::default(),
        }
    }

    /// Blobs that lay on the disk at the start, in any order: length, whether used twice, last use.
    pub(super) fn load(&mut self, mut found: Vec<(Digest, u64, bool, u32)>) {
        found.sort_by_key(|(_, _, _, used_s)| *used_s);
        for (digest, len, twice, used_s) in found {
            self.insert(&digest, len, twice, used_s);
        }
    }

    /// `twice`: its fill was not the first time that it was asked for.
    pub(super) fn sealed(&mut self, digest: &Digest, len: u64, twice: bool, now_s: u32) {
        self.ghosts.remove(digest);
        self.remove(digest);
        self.insert(digest, len, twice, now_s);
    }

    /// A reader was opened. When that is another use: `Some(whether the disk should remember it)`; it remembers the
    /// second one, and after that no more than one a minute.
    pub(super) fn used(&mut self, digest: &Digest, now_s: u32) -> Option<bool> {
        let at = self.find(digest)?;
        let slot = &mut self.slots[at as usize];
        let since_s = now_s.saturating_sub(slot.used_s);
        if since_s < self.window_s {
            return None;
        }
        let first = !std::mem::replace(&mut slot.twice, true);
        slot.used_s = now_s;
        let class = if slot.class == Class::Kept { Class::Kept } else { Class::Protected };
        self.detach(at);
        self.attach_newest(at, class);
        Some(first || since_s >= 60)
    }

    /// When the last counted use was.
    pub(super) fn used_s(&self, digest: &Digest) -> Option<u32> {
        self.find(digest).map(|at| self.slots[at as usize].used_s)
    }

    pub(super) fn class(&self, digest: &Digest) -> Option<Class> {
        self.find(digest).map(|at| self.slots[at as usize].class)
    }

    pub(super) fn protected_bytes(&self) -> u64 {
        self.lists[Class::Protected as usize].bytes
    }

    /// It was asked for before, longer ago than the burst that it may belong to.
    pub(super) fn comes_back(&self, digest: &Digest, now_s: u32) -> bool {
        self.ghosts.asked_s(digest).is_some_and(|asked_s| now_s.saturating_sub(asked_s) >= self.window_s)
    }

    /// It found no room.
    pub(super) fn turned_away(&mut self, digest: &Digest, now_s: u32) {
        self.ghosts.add(digest, now_s);
    }

    pub(super) fn evicted(&mut self, digest: &Digest) {
        if let Some(used_s) = self.used_s(digest) {
            self.remove(digest);
            self.ghosts.add(digest, used_s);
        }
    }

    pub(super) fn remove(&mut self, digest: &Digest) {
        let Some(at) = self.find(digest) else { return };
        self.detach(at);
        self.index.remove(&short(digest));
        self.tails.remove(&at);
        self.free.push(at);
    }

    /// It cannot be had again: left out of all searches until [`Uses::look_at_kept_again`].
    pub(super) fn keep(&mut self, digest: &Digest) {
        if let Some(at) = self.find(digest) {
            self.detach(at);
            self.attach_newest(at, Class::Kept);
        }
    }

    /// Kept blobs take their places again, as the first to go of their class.
    pub(super) fn look_at_kept_again(&mut self) {
        loop {
            let at = self.lists[Class::Kept as usize].newest;
            let Some(slot) = self.slots.get(at as usize) else { return };
            let class = if slot.twice { Class::Protected } else { Class::Probation };
            self.detach(at);
            self.attach_oldest(at, class);
        }
    }

    /// What has to go to meet `need`, the first first: of those on probation, and of the protected ones only for a
    /// blob that `comes_back`. Less than needed when there is no more, or more than `most` would be named. `held_bytes`
    /// is what all blobs take; `pinned` are left alone.
    pub(super) fn victims(
        &mut self,
        need: Need,
        comes_back: bool,
        held_bytes: u64,
        pinned: &HashSet<Digest>,
        now_s: u32,
        most: usize,
    ) -> (Vec<Victim>, bool) {
        self.demote(held_bytes);
        let (mut victims, mut bytes, mut blobs) = (Vec::new(), 0u64, 0u64);
        let classes: &[Class] = if comes_back { &[Class::Probation, Class::Protected] } else { &[Class::Probation] };
        for class in classes {
            let mut at = self.lists[*class as usize].oldest;
            for _ in 0..LOOKS_MOST {
                if need.is_met_by(bytes, blobs) || victims.len() >= most {
                    break;
                }
                let Some(slot) = self.slots.get(at as usize) else { break };
                let digest = self.digest(at, slot);
                if now_s.saturating_sub(slot.used_s) >= YOUNG_S && !pinned.contains(&digest) {
                    bytes = bytes.saturating_add(slot.len);
                    blobs += 1;
                    victims.push(Victim { digest, len: slot.len, class: *class });
                }
                at = slot.newer;
            }
        }
        (victims, need.is_met_by(bytes, blobs))
    }

    fn demote(&mut self, held_bytes: u64) {
        let most = held_bytes / 100 * PROTECTED_PERCENT;
        while self.protected_bytes() > most {
            let at = self.lists[Class::Protected as usize].oldest;
            if at == NONE {
                return;
            }
            self.detach(at);
            self.attach_newest(at, Class::Probation);
        }
    }

    fn insert(&mut self, digest: &Digest, len: u64, twice: bool, used_s: u32) {
        let short = short(digest);
        if self.index.contains_key(&short) {
            return;
        }
        let hash = digest.hash();
        let mut head = [0; 32];
        head.copy_from_slice(&hash[..32]);
        let class = if twice { Class::Protected } else { Class::Probation };
        let long = hash.len() > 32;
        let slot = Slot { head, len, older: NONE, newer: NONE, used_s, class, twice, long };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                // Four thousand million blobs are more than a file system names.
                let Ok(at) = u32::try_from(self.slots.len()) else { return };
                self.slots.push(slot);
                at
            }
        };
        if long {
            let mut tail = [0; 32];
            tail.copy_from_slice(&hash[32..64]);
            self.tails.insert(at, tail);
        }
        self.index.insert(short, at);
        self.attach_newest(at, class);
    }

    fn find(&self, digest: &Digest) -> Option<u32> {
        let at = *self.index.get(&short(digest))?;
        (self.digest(at, &self.slots[at as usize]) == *digest).then_some(at)
    }

    fn digest(&self, at: u32, slot: &Slot) -> Digest {
        if !slot.long {
            return Digest::Sha256(slot.head);
        }
        let tail = self.tails.get(&at).copied().unwrap_or_default();
        Digest::from_hash(Algorithm::Sha512, &[slot.head, tail].concat()).unwrap_or(Digest::Sha256(slot.head))
    }

    fn detach(&mut self, at: u32) {
        let Slot { older, newer, len, class, .. } = self.slots[at as usize];
        let list = &mut self.lists[class as usize];
        list.bytes = list.bytes.saturating_sub(len);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => list.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => list.newest = older,
        }
    }

    fn attach_newest(&mut self, at: u32, class: Class) {
        let list = &mut self.lists[class as usize];
        let older = std::mem::replace(&mut list.newest, at);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = at,
            None => list.oldest = at,
        }
        let slot = &mut self.slots[at as usize];
        list.bytes = list.bytes.saturating_add(slot.len);
        (slot.older, slot.newer, slot.class) = (older, NONE, class);
    }

    fn attach_oldest(&mut self, at: u32, class: Class) {
        let list = &mut self.lists[class as usize];
        let newer = std::mem::replace(&mut list.oldest, at);
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = at,
            None => list.newest = at,
        }
        let slot = &mut self.slots[at as usize];
        list.bytes = list.bytes.saturating_add(slot.len);
        (slot.older, slot.newer, slot.class) = (NONE, newer, class);
    }
}

#[cfg(test)]
mod tests;
