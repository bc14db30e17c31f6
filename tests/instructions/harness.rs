//! Kills at every instruction of a call, and successors that take up what each leaves.
//!
//! What remains of a killed process is what it wrote to the files of its domain, and its locks,
//! which the kernel gives back. So one run of a call, instruction by instruction, shows what a
//! kill at each of them leaves: the files as they are then. Where no byte has changed since the
//! last instruction, a successor finds the same as before, so only each new state is taken up, and
//! some of the others: copied to another domain, with everybody in its roster dead. Some runs are
//! ended by a real SIGKILL, and the domain itself is taken up.

use super::picture::{Picture, View};
use super::pool::{Found, Job, Pool};
use super::size;
use super::victim;
use super::witness::{self, Subject};
use crate::common::trace::{Stop, Tracee};
use crate::common::{Random, base, scale, tally};
use ringlane::Channel;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::sync::Arc;
use std::sync::mpsc::channel;

/// A call, and what is found if it is cut short.
pub struct Act<'a> {
    /// The row of the table to which it counts.
    pub row: &'a str,
    pub order: String,
    pub subject: Subject,
    /// What may be found, in the order in which it comes about.
    pub states: Vec<String>,
    /// The first and the last of them that may be found before each mark but the first. Once the
    /// call is over, it is the last of all.
    pub phases: &'a [(usize, usize)],
    /// The victim is in the domain already.
    pub joined: bool,
}

/// The phase of most calls: they have happened, or not.
pub const WHOLLY_OR_NOT: &[(usize, usize)] = &[(0, 1)];
/// That of calls of which a successor sees nothing.
const UNSEEN: &[(usize, usize)] = &[(0, 0)];

impl Act<'_> {
    /// One of which a successor finds the same at any time.
    pub fn unseen(row: &'static str, order: &str, state: &str) -> Act<'static> {
        Act {
            row,
            order: order.to_string(),
            subject: Subject::Channel,
            states: vec![state.to_string()],
            phases: UNSEEN,
            joined: false,
        }
    }
}

/// A kill that took place: what its successor may find.
pub struct Killed {
    row: String,
    after: u64,
    subject: Subject,
    states: Vec<String>,
    range: (usize, usize),
}

pub struct Victim {
    tracee: Tracee,
    view: View,
}

impl Victim {
    /// One that has obeyed these orders. `None` if nothing may be traced here.
    pub fn start(domain: &str, orders: &[&str]) -> Option<Victim> {
        let arguments = [&[domain], orders].concat();
        let tracee = Tracee::start("victim", &arguments)?;
        let view = View::of(base().join(domain));
        Some(Victim { tracee, view })
    }

    pub fn kill(&mut self) {
        self.tracee.kill();
    }

    /// Lets it do something, not traced, to one of its marks.
    pub fn obey(&mut self, order: &str, marks: usize) {
        self.tracee.process().tell(order);
        for _ in 0..marks {
            assert_eq!(self.tracee.run(), Stop::Mark);
        }
    }

    pub fn finish(self) {
        self.tracee.finish();
    }
}

#[derive(Default)]
struct Row {
    name: String,
    points: u64,
    /// By file and offset.
    instructions: HashSet<(Arc<str>, u64)>,
    states: HashSet<u64>,
    recoveries: u64,
    kills: u64,
}

pub struct Harness {
    name: String,
    pool: Pool,
    random: Random,
    rows: Vec<Row>,
    /// Points of each act of the scene that is played.
    acts: Vec<u64>,
    /// The act and the instruction at which the victim is killed; and which act it is at.
    kill: Option<(usize, u64)>,
    turn: usize,
    asked: u64,
}

/// What is known of a state that somebody takes up.
struct Asked {
    place: u64,
    range: (usize, usize),
    /// Kept, to kill its recovery too.
    kept: Option<Arc<Picture>>,
}

impl Harness {
    /// Its domains' names begin with this one. It works on the n-th processor of those that may be
    /// used, from 0 and around.
    pub fn new(name: &str, n: usize) -> Harness {
        let pool = Pool::new(name);
        // The victims are on the processor we are on: each step goes there and back.
        let allowed = sched_getaffinity(None).unwrap();
        let allowed = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let allowed: Vec<usize> = allowed.collect();
        let mut here = CpuSet::new();
        here.set(allowed[n % allowed.len()]);
        sched_setaffinity(None, &here).unwrap();
        Harness {
            name: name.to_string(),
            pool,
            random: Random::printed(),
            rows: Vec::new(),
            acts: Vec::new(),
            kill: None,
            turn: 0,
            asked: 0,
        }
    }

    /// Plays a scene in a domain of its own, and then as often as `kills` says with a kill.
    pub fn scene(
        &mut self,
        kills: usize,
        play: impl Fn(&mut Harness, &str, &mut Option<Channel<[u8]>>) -> Result<(), Killed>,
    ) {
        self.acts.clear();
        let domain = format!("{}-scene", self.name);
        for round in 0..=kills {
            self.turn = 0;
            self.kill = (round > 0).then(|| {
                let act = self.random.below(self.acts.len() as u64) as usize;
                (act, self.random.below(self.acts[act] + 1))
            });
            let mut living = None;
            match play(self, &domain, &mut living) {
                Ok(()) => assert!(round == 0, "nobody was killed"),
                Err(killed) => self.judge(&domain, &killed, living.take()),
            }
            drop(living);
            let _ = fs::remove_dir_all(base().join(&domain));
        }
        self.kill = None;
    }

    /// Takes up what a real kill left.
    fn judge(&mut self, domain: &str, killed: &Killed, living: Option<Channel<[u8]>>) {
        let found = match living {
            Some(living) => vec![witness::channel_with(domain, Some(living))],
            None => killed.subject.witness(domain),
        };
        let why = format!("{} killed after {}", killed.row, killed.after);
        reached(&Ok(found), &killed.states, killed.range, &why);
        self.row(&killed.row).kills += 1;
    }

    fn row(&mut self, name: &str) -> &mut Row {
        let at = self.rows.iter().position(|row| row.name == name);
        let at = at.unwrap_or_else(|| {
            self.rows.push(Row {
                name: name.to_string(),
                ..Row::default()
            });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// Has the victim do it, stopped at each instruction; or kills it there.
    pub fn act(&mut self, victim: &mut Victim, act: &Act) -> Result<(), Killed> {
        victim.obey(&act.order, 1);
        let Some((which, after)) = self.kill else {
            let (points, kept) = self.step(victim, act, self.double_every());
            self.acts.push(points);
            for (picture, state) in kept {
                self.double(act, &picture, victim.tracee.pid(), state);
            }
            return Ok(());
        };
        self.turn += 1;
        if which != self.turn - 1 {
            for _ in act.phases {
                assert_eq!(victim.tracee.run(), Stop::Mark);
            }
            return Ok(());
        }
        let mut phase = 0;
        let mut steps = 0;
        while steps < after && phase < act.phases.len() {
            steps += 1;
            phase += usize::from(victim.tracee.step() == Stop::Mark);
        }
        victim.kill();
        Err(Killed {
            row: act.row.to_string(),
            after: steps,
            subject: act.subject,
            states: act.states.clone(),
            range: range_in(act, phase),
        })
    }

    /// Of so many states that are taken up, one is taken up by somebody who is killed as well.
    fn double_every(&self) -> u64 {
        size(1000, 1600) as u64
    }

    /// Executes an act instruction by instruction. Gives how many, and the pictures whose recovery
    /// is to be killed, with the state that was found in them.
    fn step(
        &mut self,
        victim: &mut Victim,
        act: &Act,
        double_every: u64,
    ) -> (u64, Vec<(Arc<Picture>, usize)>) {
        let (reply, replies) = channel();
        let mut asked = BTreeMap::new();
        let mut places = HashMap::new();
        let mut states = HashSet::new();
        let (mut after, mut phase) = (0, 0);
        let mut changed = true;
        let pid = victim.tracee.pid();
        victim.view.look();
        victim.view.has_changed();
        // Of the states that one instruction makes again and again, as when it copies a message.
        let (first, then) = (16, size(64, 16) as u64);
        let sample = size(5000, 1000) as u64;
        loop {
            let place = victim.tracee.registers().rip;
            let is_over = phase == act.phases.len();
            let seen: &mut u64 = places.entry(place).or_default();
            if changed {
                *seen += 1;
            }
            let is_one = changed && (*seen <= first || *seen % then == 0);
            if is_one || is_over || after % sample == 0 {
                let picture = Arc::new(victim.view.picture());
                states.insert(picture.hash());
                let kept = double_every > 0 && self.random.below(double_every) == 0;
                let range = range_in(act, phase);
                let kept = kept.then(|| picture.clone());
                asked.insert(after, Asked { place, range, kept });
                self.asked += 1;
                self.pool.ask(Job {
                    after,
                    picture,
                    subject: act.subject,
                    pid,
                    places: (usize::from(act.joined), 1),
                    fresh: self.asked % 100 == 0,
                    reply: reply.clone(),
                });
            }
            if is_over {
                break;
            }
            let stop = victim.tracee.step();
            assert!(matches!(stop, Stop::Step | Stop::Mark), "{stop:?}");
            after += 1;
            phase += usize::from(stop == Stop::Mark);
            // A system call leaves in rcx where it came back to. Only one makes, removes or
            // lengthens a file.
            let registers = victim.tracee.registers();
            changed = registers.rcx == registers.rip && victim.view.look();
            changed |= victim.view.has_changed();
        }
        drop(reply);
        let mut found: Vec<_> = replies.iter().collect();
        found.sort_by_key(|(after, _)| *after);
        assert_eq!(found.len(), asked.len());
        let maps = Maps::of(pid);
        let mut least = 0;
        let mut kept = Vec::new();
        for (at, found) in &found {
            let Asked {
                place,
                range,
                kept: picture,
            } = &asked[at];
            let place = maps.place(*place);
            let why = format!(
                "{}, {:?}: after {at} of {after}, at {place:x?}",
                act.row, act.order
            );
            let state = reached(found, &act.states, *range, &why);
            assert!(least <= state, "{why}: {state} after {least}");
            least = state;
            kept.extend(picture.clone().map(|picture| (picture, state)));
        }
        let row = self.row(act.row);
        row.points += after;
        row.recoveries += found.len() as u64;
        row.states.extend(states);
        row.instructions
            .extend(places.keys().map(|rip| maps.place(*rip)));
        (after, kept)
    }

    /// Kills the recovery from a kill at each of its instructions.
    fn double(&mut self, act: &Act, picture: &Picture, pid: u32, state: usize) {
        let is_store = matches!(act.subject, Subject::Store | Subject::NewStore);
        let file = format!(
            "{}.{}",
            victim::NAME,
            if is_store { "store" } else { "channel" }
        );
        if !picture.has(&file) {
            return;
        }
        let domain = format!("{}-double", self.name);
        picture.put(&base().join(&domain), pid);
        let open = act.subject == Subject::Closed || self.random.below(2) == 0;
        let (row, before, order) = match (is_store, open) {
            (true, _) => ("recovery of a store", "open_store", "set probe 40 3"),
            (false, true) => ("recovery of a guest's end", "join", "open"),
            (false, false) => ("recovery of a host's end", "join", "create"),
        };
        let phases = [(state, state)];
        let second = Act {
            row,
            order: order.to_string(),
            subject: act.subject,
            states: act.states.clone(),
            phases: &phases,
            joined: true,
        };
        let mut victim = Victim::start(&domain, &[before]).unwrap();
        victim.obey(order, 1);
        self.step(&mut victim, &second, 0);
        drop(victim);
        fs::remove_dir_all(base().join(&domain)).unwrap();
    }

    /// Prints what they did, and records it.
    pub fn tell(all: &[Harness]) {
        let rows: Vec<&Row> = all.iter().flat_map(|harness| &harness.rows).collect();
        let sum = |of: fn(&Row) -> u64| rows.iter().map(|row| of(row)).sum::<u64>();
        println!(
            "{:>9} {:>12} {:>8} {:>10} {:>6}",
            "points", "instructions", "states", "recoveries", "kills"
        );
        for row in &rows {
            println!(
                "{:9} {:12} {:8} {:10} {:6}  {}",
                row.points,
                row.instructions.len(),
                row.states.len(),
                row.recoveries,
                row.kills,
                row.name
            );
        }
        println!("{} points in all", sum(|row| row.points));
        // At the larger scale it is the optimised build that counts.
        if cfg!(debug_assertions) && scale(0, 1) == 1 {
            return;
        }
        for row in &rows {
            let is_second = row.name.starts_with("recovery");
            let fault = if is_second { "double" } else { "instruction" };
            let stopped = format!("instructions of {}, stopped at each", row.name);
            tally(fault, &stopped, row.points);
            let different = format!("different instructions of {}", row.name);
            tally(fault, &different, row.instructions.len() as u64);
        }
        let fault = "instruction";
        let states = "different states of memory that they left";
        tally(fault, states, sum(|row| row.states.len() as u64));
        tally(fault, "recoveries from them", sum(|row| row.recoveries));
        let kills = "real kills at such an instruction";
        tally(fault, kills, sum(|row| row.kills));
    }

    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }
}

fn range_in(act: &Act, phase: usize) -> (usize, usize) {
    let last = act.phases.last().unwrap().1;
    *act.phases.get(phase).unwrap_or(&(last, last))
}

/// In which of the states it was found: it must be one of that range, and what was seen without
/// the lock no later one.
fn reached(found: &Found, states: &[String], range: (usize, usize), why: &str) -> usize {
    let found = found.as_ref().unwrap_or_else(|e| panic!("{why}: {e}"));
    let state = |text: &String| {
        let state = states.iter().position(|state| state == text);
        state.unwrap_or_else(|| panic!("{why}: found {text:?}, but should {states:#?}"))
    };
    let each: Vec<_> = found.iter().map(state).collect();
    let last = *each.last().unwrap();
    assert!(each.is_sorted(), "{why}: {each:?}");
    assert!(
        (range.0..=range.1).contains(&last),
        "{why}: {last} not in {range:?}"
    );
    last
}

/// What is where in a process.
struct Maps(Vec<(u64, u64, u64, Arc<str>)>);

impl Maps {
    fn of(pid: u32) -> Maps {
        let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        // Addresses, permissions, offset, device, inode, path.
        let lines = text.lines().filter_map(|line| {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            let (start, end) = words[0].split_once('-').unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            let path = *words.get(5)?;
            Some((number(start), number(end), number(words[2]), path.into()))
        });
        Maps(lines.collect())
    }

    fn place(&self, address: u64) -> (Arc<str>, u64) {
        let map = self.0.iter().find(|map| (map.0..map.1).contains(&address));
        let (start, _, offset, path) = map.unwrap();
        (path.clone(), address - start + offset)
    }
}
