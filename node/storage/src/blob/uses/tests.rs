//! The policy beside a model of it that is too slow and too plain to be wrong.

use proptest::prelude::*;

use super::*;

const WINDOW_S: u32 = 60;

fn digest(n: u16) -> Digest {
    if n.is_multiple_of(5) {
        let mut hash = [7; 64];
        hash[..2].copy_from_slice(&n.to_le_bytes());
        return Digest::from_hash(Algorithm::Sha512, &hash).unwrap();
    }
    let mut hash = [9; 32];
    hash[..2].copy_from_slice(&n.to_le_bytes());
    Digest::Sha256(hash)
}

fn len_of(n: u16) -> u64 {
    u64::from(n % 7 + 1) * 10
}

fn names(victims: &[Victim]) -> Vec<Digest> {
    victims.iter().map(|victim| victim.digest).collect()
}

fn bytes(bytes: u64) -> Need {
    Need { bytes, blobs: 0 }
}

#[test]
fn a_slot_stays_small() {
    assert!(size_of::<Slot>() <= 56);
}

#[test]
fn what_was_used_once_goes_first_and_takes_nothing_from_what_was_used_twice() {
    let mut uses = Uses::new(WINDOW_S);
    for n in 1..=4 {
        uses.sealed(&digest(n), 100, false, 1000 + u32::from(n));
    }
    assert_eq!(uses.used(&digest(1), 1030), None, "of the same burst");
    assert_eq!(uses.used(&digest(1), 1061), Some(true), "a second use is remembered");
    assert_eq!(uses.used(&digest(1), 1062), None);
    let none = HashSet::new();
    let (victims, enough) = uses.victims(bytes(150), false, 400, &none, 2000, 100);
    assert_eq!((names(&victims), enough), (vec![digest(2), digest(3)], true), "the oldest, and no more than needed");
    let (victims, enough) = uses.victims(bytes(301), false, 400, &none, 2000, 100);
    assert_eq!((names(&victims), enough), (vec![digest(2), digest(3), digest(4)], false));
    let (victims, enough) = uses.victims(bytes(301), true, 400, &none, 2000, 100);
    assert_eq!((victims.last().unwrap().digest, enough), (digest(1), true), "what comes back may displace it");
    let pinned = HashSet::from([digest(2)]);
    assert_eq!(names(&uses.victims(bytes(100), false, 400, &pinned, 2000, 100).0), [digest(3)]);
    assert_eq!(names(&uses.victims(bytes(300), false, 400, &none, 1007, 100).0), [digest(2)], "young ones stay");
    let blobs = Need { bytes: 0, blobs: 2 };
    assert_eq!(uses.victims(blobs, false, 400, &none, 2000, 100).0.len(), 2);
}

#[test]
fn what_is_asked_for_again_later_comes_back_and_a_burst_does_not() {
    let mut uses = Uses::new(WINDOW_S);
    assert!(!uses.comes_back(&digest(1), 1000));
    for now_s in 1000..1060 {
        uses.turned_away(&digest(1), now_s);
        assert!(!uses.comes_back(&digest(1), now_s));
    }
    assert!(uses.comes_back(&digest(1), 1060));
    uses.sealed(&digest(2), 100, false, 1000);
    uses.evicted(&digest(2));
    assert!(!uses.comes_back(&digest(2), 1059));
    assert!(uses.comes_back(&digest(2), 1060), "an evicted one was used once");
    uses.sealed(&digest(2), 100, true, 1060);
    assert_eq!(uses.class(&digest(2)), Some(Class::Protected));
    assert!(!uses.comes_back(&digest(2), 9999), "it is here");
}

#[test]
fn what_cannot_be_had_again_is_left_out_until_it_is_looked_at_again() {
    let mut uses = Uses::new(WINDOW_S);
    for n in 1..=3 {
        uses.sealed(&digest(n), 100, n == 1, 1000);
    }
    uses.keep(&digest(1));
    uses.keep(&digest(2));
    let none = HashSet::new();
    assert_eq!(names(&uses.victims(bytes(999), true, 999, &none, 2000, 100).0), [digest(3)]);
    assert_eq!(uses.used(&digest(2), 2000), Some(true));
    assert_eq!(uses.class(&digest(2)), Some(Class::Kept));
    uses.look_at_kept_again();
    let all = names(&uses.victims(bytes(999), true, 999, &none, 3000, 100).0);
    assert_eq!(all, [digest(3), digest(1), digest(2)]);
}

#[test]
fn the_disk_is_told_once_a_minute_however_short_the_window() {
    let mut uses = Uses::new(0);
    uses.sealed(&digest(1), 100, false, 1000);
    assert_eq!(uses.used(&digest(1), 1000), Some(true));
    assert_eq!(uses.used(&digest(1), 1000), Some(false));
    assert_eq!(uses.used(&digest(1), 1060), Some(true));
}

/// Each list oldest first.
#[derive(Default)]
struct Model {
    probation: Vec<(u16, u32)>,
    protected: Vec<(u16, u32)>,
}

impl Model {
    fn take(&mut self, n: u16) -> Option<(u32, bool)> {
        for (twice, list) in [(false, &mut self.probation), (true, &mut self.protected)] {
            if let Some(at) = list.iter().position(|(known, _)| *known == n) {
                return Some((list.remove(at).1, twice));
            }
        }
        None
    }

    fn pull(&mut self, n: u16, now_s: u32) {
        match self.take(n) {
            Some((used_s, _)) if now_s - used_s >= WINDOW_S => self.protected.push((n, now_s)),
            Some(_) => unreachable!("asked below"),
            None => self.probation.push((n, now_s)),
        }
    }

    fn is_same_use(&self, n: u16, now_s: u32) -> bool {
        let both = self.probation.iter().chain(&self.protected);
        both.into_iter().any(|(known, used_s)| *known == n && now_s - used_s < WINDOW_S)
    }

    fn bytes(list: &[(u16, u32)]) -> u64 {
        list.iter().map(|(n, _)| len_of(*n)).sum()
    }

    fn victims(&mut self, need: u64, comes_back: bool, now_s: u32) -> (Vec<Digest>, bool) {
        let held = Self::bytes(&self.probation) + Self::bytes(&self.protected);
        while Self::bytes(&self.protected) > held / 100 * 80 {
            self.probation.push(self.protected.remove(0));
        }
        let (mut victims, mut sum) = (Vec::new(), 0);
        let protected: &[_] = if comes_back { &self.protected } else { &[] };
        for (n, used_s) in self.probation.iter().chain(protected) {
            if sum < need && now_s - used_s >= YOUNG_S {
                victims.push(digest(*n));
                sum += len_of(*n);
            }
        }
        (victims, sum >= need)
    }
}

proptest! {
    #[test]
    fn any_history_ends_as_the_model_says(
        steps in prop::collection::vec((0u16..40, 0u32..50, 0u8..6, 0u64..400), 1..300),
    ) {
        let (mut uses, mut model, mut now_s) = (Uses::new(WINDOW_S), Model::default(), 1000);
        for (n, wait_s, what, need) in steps {
            now_s += wait_s;
            match what {
                0 => {
                    uses.remove(&digest(n));
                    model.take(n);
                }
                1 => {
                    let comes_back = need % 2 == 0;
                    let held = uses.lists.iter().map(|list| list.bytes).sum();
                    let (victims, enough) = uses.victims(bytes(need), comes_back, held, &HashSet::new(), now_s, 1000);
                    let protected = victims.iter().any(|victim| victim.class == Class::Protected);
                    prop_assert!(comes_back || !protected, "once-pulled content displaced what is protected");
                    prop_assert!(uses.protected_bytes() <= held / 100 * 80);
                    prop_assert_eq!((names(&victims), enough), model.victims(need, comes_back, now_s));
                    for victim in victims {
                        uses.evicted(&victim.digest);
                        let gone = (0..40).find(|n| digest(*n) == victim.digest).unwrap();
                        model.take(gone);
                    }
                }
                _ => {
                    if !model.is_same_use(n, now_s) {
                        model.pull(n, now_s);
                    }
                    match uses.used_s(&digest(n)) {
                        Some(_) => drop(uses.used(&digest(n), now_s)),
                        None => uses.sealed(&digest(n), len_of(n), false, now_s),
                    }
                }
            }
            let sums = (Model::bytes(&model.probation), Model::bytes(&model.protected));
            prop_assert_eq!((uses.lists[0].bytes, uses.lists[1].bytes), sums);
        }
        prop_assert_eq!(uses.index.len(), model.probation.len() + model.protected.len());
        prop_assert_eq!(uses.slots.len() - uses.free.len(), uses.index.len());
    }
}
