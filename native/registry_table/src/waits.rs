//! Who waits for what on behalf of a start, in a whole VM: so that starts that wait for each other in a
//! circle are found.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use once_cell::sync::Lazy;
use parking_lot::Mutex;

use crate::id::Pid;
use crate::starts::Flight;

/// How many waits are looked at for one circle: longer ones are not found.
const MOST: usize = 4096;

/// A process waits until something is over, and something else cannot go on before that.
#[derive(Clone, Debug)]
pub struct Wait<T> {
    /// The process that is busy with what cannot go on. It may be the one that waits.
    pub by: Pid,
    /// What cannot go on.
    pub own: Flight,
    /// What is waited for.
    pub wanted: Flight,
    /// Whether whoever answers has heard of it, and has not answered at once.
    pub heard: bool,
    /// What the caller wants to know of that.
    pub what: T,
}

/// The waits of a VM, under one lock: of all that close a circle together, the last one sees it.
pub struct Waits<T> {
    all: Lazy<Mutex<All<T>>>,
    count: AtomicUsize,
}

struct All<T> {
    /// With their numbers.
    by_pid: HashMap<u64, (u64, Wait<T>)>,
    by_own: HashMap<Flight, Vec<u64>>,
    /// How many waits have begun.
    begun: u64,
}

impl<T: Clone> Waits<T> {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self {
            all: Lazy::new(|| {
                Mutex::new(All {
                    by_pid: HashMap::new(),
                    by_own: HashMap::new(),
                    begun: 0,
                })
            }),
            count: AtomicUsize::new(0),
        }
    }

    /// A process begins to wait, if `still` says that what cannot go on is still under way: what ends
    /// after that removes the wait by [`Self::void`]. Returns the number of the wait, which no other has.
    pub fn begin(&self, pid: Pid, wait: Wait<T>, still: impl FnOnce() -> bool) -> Option<u64> {
        let (number, _before) = self.change(|all| {
            if !still() {
                return (None, None);
            }
            let before = all.remove(pid.word());
            all.begun += 1;
            all.by_own.entry(wait.own).or_default().push(pid.word());
            all.by_pid.insert(pid.word(), (all.begun, wait));
            (Some(all.begun), before)
        });
        number
    }

    /// A process is answered what it waited for with this number. It may wait for something else by now.
    pub fn end(&self, pid: Pid, number: u64) {
        self.end_if(pid, |now| now == number);
    }

    /// Whoever answers has heard of the wait with this number, and has not answered at once.
    pub fn hear(&self, pid: Pid, number: u64) {
        self.change(|all| {
            if let Some((_, wait)) = all
                .by_pid
                .get_mut(&pid.word())
                .filter(|(now, _)| *now == number)
            {
                wait.heard = true;
            }
        });
    }

    /// A process is dead.
    pub fn forget(&self, pid: Pid) {
        self.end_if(pid, |_number| true);
    }

    fn end_if(&self, pid: Pid, ends: impl FnOnce(u64) -> bool) {
        if self.is_empty() {
            return;
        }
        drop(self.change(|all| {
            let &(number, _) = all.by_pid.get(&pid.word())?;
            ends(number).then(|| all.remove(pid.word()))
        }));
    }

    /// Nobody waits any more on behalf of this process, which is not busy with this any more.
    pub fn void(&self, own: Flight, by: Pid) {
        if self.is_empty() {
            return;
        }
        drop(self.change(|all| {
            let mut waiting = all.by_own.get(&own).cloned().unwrap_or_default();
            waiting.retain(|pid| all.by_pid[pid].1.by == by);
            let removed = waiting.into_iter().map(|pid| all.remove(pid));
            removed.collect::<Vec<_>>()
        }));
    }

    /// The waits of a circle that this process closes: its own, then each one on behalf of what the last
    /// one is for. None of the waits of these `others` is in it. Empty if it closes none.
    pub fn circle(&self, pid: Pid, others: &[Pid]) -> Vec<(Pid, Wait<T>)> {
        let others = others.iter().map(|pid| pid.word()).collect();
        self.all.lock().circle(pid.word(), &others)
    }

    /// The waits of these processes, if each waits on behalf of what the one before waits for, and the
    /// first one on behalf of what the last one does. Empty if they do not.
    pub fn closed(&self, circle: &[Pid]) -> Vec<Wait<T>> {
        self.all.lock().closed(circle)
    }

    /// As [`Self::closed`]. If they do, the first one waits no more: so the others' waits come to an end, and
    /// of all who break a circle one does.
    pub fn break_circle(&self, circle: &[Pid]) -> Vec<Wait<T>> {
        let (waits, _removed) = self.change(|all| {
            let waits = all.closed(circle);
            let first = circle.first().filter(|_| !waits.is_empty());
            let removed = first.and_then(|first| all.remove(first.word()));
            (waits, removed)
        });
        waits
    }

    /// Changes the waits under the lock. What is returned is dropped without it.
    fn change<R>(&self, change: impl FnOnce(&mut All<T>) -> R) -> R {
        let mut all = self.all.lock();
        let changed = change(&mut all);
        // Relaxed: who ends a wait, or what it is for, does so after this, and has heard of it.
        self.count.store(all.by_pid.len(), Ordering::Relaxed);
        changed
    }

    fn is_empty(&self) -> bool {
        // Relaxed: as above.
        self.count.load(Ordering::Relaxed) == 0
    }
}

impl<T: Clone> Default for Waits<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone> All<T> {
    fn remove(&mut self, pid: u64) -> Option<Wait<T>> {
        let (_, wait) = self.by_pid.remove(&pid)?;
        if let Some(waiting) = self.by_own.get_mut(&wait.own) {
            waiting.retain(|&other| other != pid);
            if waiting.is_empty() {
                self.by_own.remove(&wait.own);
            }
        }
        Some(wait)
    }

    fn closed(&self, circle: &[Pid]) -> Vec<Wait<T>> {
        let waits = circle.iter().map(|pid| self.by_pid.get(&pid.word()));
        let waits = waits.map(|found| found.map(|(_, wait)| wait));
        let waits = waits.collect::<Option<Vec<_>>>().unwrap_or_default();
        let next = waits.iter().skip(1).chain(waits.first());
        let closed = waits
            .iter()
            .zip(next)
            .all(|(wait, next)| wait.wanted == next.own);
        let waits = waits.into_iter().filter(|_| closed);
        waits.cloned().collect()
    }

    fn circle(&self, pid: u64, others: &HashSet<u64>) -> Vec<(Pid, Wait<T>)> {
        let Some((_, first)) = self.by_pid.get(&pid).filter(|_| !others.contains(&pid)) else {
            return Vec::new();
        };
        let mut seen = HashSet::new();
        // Those on the ways from this one, each with the place of the one before.
        let mut met = vec![(pid, 0)];
        let mut place = 0;
        while let Some(&(pid, _)) = met.get(place).filter(|_| place < MOST) {
            let wanted = self.by_pid[&pid].1.wanted;
            if wanted == first.own {
                return self.way_to(&met, place);
            }
            if seen.insert(wanted) {
                let next = self.by_own.get(&wanted).into_iter().flatten();
                let next = next.filter(|pid| !others.contains(pid));
                met.extend(next.map(|&pid| (pid, place)));
            }
            place += 1;
        }
        Vec::new()
    }

    fn way_to(&self, met: &[(u64, usize)], mut place: usize) -> Vec<(Pid, Wait<T>)> {
        let mut way = Vec::new();
        loop {
            let (pid, before) = met[place];
            way.extend(Pid::new(pid).map(|pid| (pid, self.by_pid[&pid.word()].1.clone())));
            if place == 0 {
                way.reverse();
                return way;
            }
            place = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;
    use crate::starts::Starts;

    fn pids(words: &[u64]) -> Vec<Pid> {
        let pids = words.iter().map(|&word| Pid::new(word));
        pids.map(|pid| pid.expect("not zero")).collect()
    }

    struct World {
        starts: Starts,
        waits: Waits<u64>,
    }

    impl World {
        fn new() -> Self {
            Self {
                starts: Starts::new(),
                waits: Waits::new(),
            }
        }

        fn flight(&self, id: u64) -> Flight {
            let (shape, words) = (0, &[id]);
            let flight = self.starts.flight::<()>(1, &Id::Words { shape, words });
            flight.expect("it is not opaque")
        }

        /// The starter of `own`, which has its number, waits for `wanted`, or has `pid` wait.
        fn wait(&self, pid: u64, own: u64, wanted: u64) -> u64 {
            let wait = Wait {
                by: Pid::new(own).expect("not zero"),
                own: self.flight(own),
                wanted: self.flight(wanted),
                heard: false,
                what: wanted,
            };
            let number = self
                .waits
                .begin(Pid::new(pid).expect("not zero"), wait, || true);
            number.expect("it is busy")
        }

        fn circle(&self, pid: u64) -> Vec<u64> {
            self.circle_without(pid, &[])
        }

        fn circle_without(&self, pid: u64, others: &[u64]) -> Vec<u64> {
            let others = pids(others);
            let circle = self.waits.circle(Pid::new(pid).expect("not zero"), &others);
            circle.into_iter().map(|(_, wait)| wait.what).collect()
        }

        fn break_circle(&self, circle: &[u64]) -> Vec<u64> {
            let waits = self.waits.break_circle(&pids(circle));
            waits.into_iter().map(|wait| wait.what).collect()
        }
    }

    #[test]
    fn circles_of_any_length_are_found_by_each_in_them() {
        for length in [1, 2, 3, 100] {
            let world = World::new();
            for own in 1..=length {
                assert_eq!(world.circle(own), []);
                world.wait(own, own, own % length + 1);
            }
            for own in 1..=length {
                let circle = (0..length).map(|nth| (own + nth) % length + 1);
                assert_eq!(world.circle(own), circle.collect::<Vec<_>>());
            }
            let all: Vec<_> = (1..=length).collect();
            assert_eq!(world.break_circle(&all).len(), length as usize);
            for own in 1..=length {
                assert_eq!(world.circle(own), []);
            }
            assert_eq!(world.break_circle(&all), []);
        }
    }

    #[test]
    fn what_only_leads_to_a_circle_is_in_none() {
        let world = World::new();
        world.wait(1, 1, 2);
        world.wait(2, 2, 3);
        world.wait(3, 3, 2);
        assert_eq!(world.circle(1), []);
        assert_eq!(world.circle(2), [3, 2]);
    }

    #[test]
    fn others_may_wait_on_behalf_of_a_start_too() {
        let world = World::new();
        world.wait(1, 1, 2);
        // Two tasks of the start of 2.
        world.wait(20, 2, 3);
        world.wait(21, 2, 1);
        assert_eq!(world.circle(1), [2, 1]);
        assert_eq!(world.circle(21), [1, 2]);
        assert_eq!(world.circle(20), []);
    }

    #[test]
    fn of_two_circles_each_is_found() {
        let world = World::new();
        // Two tasks of the start of 1 wait for 2 and 3, and these for 4, which waits for 1.
        for (pid, own, wanted) in [(10, 1, 2), (11, 1, 3), (2, 2, 4), (3, 3, 4), (4, 4, 1)] {
            world.wait(pid, own, wanted);
        }
        assert_eq!(world.circle_without(4, &[10]), [1, 3, 4]);
        assert_eq!(world.circle_without(4, &[11]), [1, 2, 4]);
        assert_eq!(world.circle_without(4, &[10, 3]), []);
        assert_eq!(world.circle_without(4, &[4]), []);
        assert_eq!(world.break_circle(&[4, 10, 3]), [], "it is none");
        assert_eq!(world.break_circle(&[10, 4]), [], "nor is this");
        assert_eq!(world.break_circle(&[]), []);
        assert_eq!(world.break_circle(&[2, 4, 10]), [4, 1, 2]);
        // The other one is as it was.
        assert_eq!(world.circle(4), [1, 3, 4]);
        assert_eq!(world.break_circle(&[4, 11, 3]), [1, 3, 4]);
        assert_eq!(world.circle(3), []);
    }

    #[test]
    fn a_wait_is_over_when_it_ends_and_when_its_start_does() {
        let world = World::new();
        let pid = |word| Pid::new(word).expect("not zero");
        world.wait(1, 1, 2);
        let before = world.wait(2, 2, 1);
        world.waits.end(pid(2), before);
        assert_eq!(world.circle(1), []);
        world.wait(2, 2, 1);
        world.waits.end(pid(2), before);
        assert_eq!(
            world.circle(1),
            [2, 1],
            "an answer that is late ends no other wait"
        );
        world.waits.forget(pid(2));
        assert_eq!(world.circle(1), []);
        world.wait(2, 2, 1);
        assert_eq!(world.circle(1), [2, 1]);
        world.waits.void(world.flight(2), pid(3));
        assert_eq!(world.circle(1), [2, 1]);
        world.waits.void(world.flight(2), pid(2));
        assert_eq!(world.circle(1), []);
        world.waits.void(world.flight(1), pid(1));
        assert!(world.waits.is_empty());
    }

    #[test]
    fn a_wait_is_heard_of_by_its_number() {
        let world = World::new();
        let pid = Pid::new(1).expect("not zero");
        let before = world.wait(1, 1, 1);
        let number = world.wait(1, 1, 1);
        world.waits.hear(pid, before);
        assert!(!world.waits.closed(&[pid])[0].heard);
        world.waits.hear(pid, number);
        assert!(world.waits.closed(&[pid])[0].heard);
    }

    #[test]
    fn none_begins_for_a_start_that_is_over() {
        let world = World::new();
        world.wait(1, 1, 1);
        let pid = Pid::new(1).expect("not zero");
        let mut wait = world.waits.break_circle(&[pid]).remove(0);
        wait.what = 7;
        assert_eq!(world.waits.begin(pid, wait, || false), None);
        assert_eq!(world.circle(1), []);
    }
}
