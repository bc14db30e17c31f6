//! Whether what receivers were handed, one after another, can have been: a channel keeps the order,
//! and loses and repeats nothing but what a receiver had in its hands when it was killed.

use std::collections::{HashMap, HashSet};

/// Which message: in which of its lives its sender sent it, and how many that life sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub life: u64,
    pub number: u64,
}

/// What a sender wrote down in one of its lives: how many messages it began to send, and how many
/// calls returned `Ok`.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub begun: u64,
    pub acknowledged: u64,
}

/// How a receiver takes its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Recv,
    RecvMany,
    RecvRef,
}

/// The most that is taken by one `recv_many`.
pub const MANY: usize = 8;

impl Way {
    /// The way of a receiver's life. The third and the fourth follow on one another in one way.
    pub fn of(life: u64) -> Way {
        match life % 4 {
            0 => Way::Recv,
            1 => Way::RecvMany,
            _ => Way::RecvRef,
        }
    }

    /// The most messages that are lost if the receiver is killed.
    fn in_work(self) -> u64 {
        match self {
            Way::Recv => 1,
            Way::RecvMany => MANY as u64,
            Way::RecvRef => 0,
        }
    }
}

/// A message that a receiver was handed.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// In which of its lives.
    pub by: u64,
    pub id: Id,
    /// Each byte is as its sender made it.
    pub is_whole: bool,
    /// Whether it said that it came again, where a message says that.
    pub redelivered: Option<bool>,
    /// How many its sender had begun to send, as seen when it was there.
    pub begun: u64,
}

#[derive(Clone, Debug)]
pub struct History {
    /// By life of the sender.
    pub sent: Vec<Sent>,
    /// In the order in which they were handed out.
    pub received: Vec<Received>,
    /// How many lives receivers had in which they got the end; in others they have nothing in work.
    /// In the last one nobody was killed, and nothing was left.
    pub receivers: u64,
}

/// What is wrong with a message, or with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    Broken,
    NotSentYet,
    /// It came twice, and nobody died with it in its hands.
    Again,
    /// It came again and did not say so.
    NotMarked,
    /// It said that it came again, and nobody can have had it.
    Marked,
    /// One that was sent before it came after it.
    OutOfOrder,
    /// More are missing before it than receivers had in work.
    Lost,
}

/// What was in work when receivers were killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InWork {
    pub lost: u64,
    pub again: u64,
}

/// Checks a history. If it cannot have been, says what is wrong, and at which message received.
pub fn check(history: &History) -> Result<InWork, (usize, Flaw)> {
    let History { sent, received, .. } = history;
    let all: HashSet<Id> = received.iter().map(|one| one.id).collect();
    // Of each life of the sender, how many were sent for sure: what follows on others was sent, and
    // so were these.
    let mut ends: HashMap<u64, u64> = HashMap::new();
    for (life, sent) in sent.iter().enumerate() {
        assert!(sent.acknowledged <= sent.begun, "{sent:?}");
        ends.insert(life as u64, sent.acknowledged);
    }
    for one in received {
        let end = ends.entry(one.id.life).or_default();
        *end = (*end).max(one.id.number + 1);
    }
    let mut in_work = InWork::default();
    let mut next = Id { life: 0, number: 0 };
    // Who was handed the last one.
    let mut by = 0;
    let mut last = None;
    for (i, one) in received.iter().enumerate() {
        let here = |flaw| (i, flaw);
        assert!(by <= one.by, "receivers live one after another");
        if !one.is_whole {
            return Err(here(Flaw::Broken));
        }
        let begun = sent.get(one.id.life as usize).map_or(0, |sent| sent.begun);
        if one.id.number >= one.begun.min(begun) {
            return Err(here(Flaw::NotSentYet));
        }
        // Somebody died with a message in its hands that it had not taken.
        let was_in_hand = (by..one.by).any(|life| Way::of(life) == Way::RecvRef);
        if last == Some(one.id) && Way::of(by) == Way::RecvRef && by < one.by {
            if one.redelivered == Some(false) {
                return Err(here(Flaw::NotMarked));
            }
            in_work.again += 1;
        } else {
            if one.id < next {
                return Err(here(Flaw::Again));
            }
            if one.redelivered == Some(true) && !was_in_hand {
                return Err(here(Flaw::Marked));
            }
            in_work.lost += lost(&all, &ends, next..one.id, by..one.by).map_err(here)?;
        }
        by = one.by;
        last = Some(one.id);
        next = Id {
            number: one.id.number + 1,
            ..one.id
        };
    }
    let end = Id {
        life: sent.len() as u64,
        number: 0,
    };
    let rest = lost(&all, &ends, next..end, by..history.receivers - 1);
    in_work.lost += rest.map_err(|flaw| (received.len(), flaw))?;
    Ok(in_work)
}

/// How many of the messages between two are missing, if the receivers that died between may have
/// had so many in work.
fn lost(
    all: &HashSet<Id>,
    ends: &HashMap<u64, u64>,
    between: std::ops::Range<Id>,
    died: std::ops::Range<u64>,
) -> Result<u64, Flaw> {
    let mut missing = 0;
    for life in between.start.life..=between.end.life {
        let is_first = life == between.start.life;
        let first = if is_first { between.start.number } else { 0 };
        let end = match life == between.end.life {
            true => between.end.number,
            false => ends[&life],
        };
        for number in first..end {
            if all.contains(&Id { life, number }) {
                return Err(Flaw::OutOfOrder);
            }
            missing += 1;
        }
    }
    let allowed: u64 = died.map(|life| Way::of(life).in_work()).sum();
    if missing > allowed {
        return Err(Flaw::Lost);
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECV: u64 = 0;
    const RECV_MANY: u64 = 1;
    const RECV_REF: u64 = 2;
    const RECV_REF_TOO: u64 = 3;

    /// A message of the sender's first life.
    fn one(by: u64, number: u64) -> Received {
        of_life(0, by, number)
    }

    fn of_life(life: u64, by: u64, number: u64) -> Received {
        Received {
            by,
            id: Id { life, number },
            is_whole: true,
            redelivered: (Way::of(by) == Way::RecvRef).then_some(false),
            begun: number + 1,
        }
    }

    fn again(by: u64, number: u64) -> Received {
        Received {
            redelivered: Some(true),
            ..one(by, number)
        }
    }

    /// Whether these can have been received of a sender whose lives acknowledged so many, and were
    /// in one more each.
    fn checked(acknowledged: &[u64], received: &[Received]) -> Result<InWork, (usize, Flaw)> {
        let sent = acknowledged.iter().map(|acknowledged| Sent {
            begun: acknowledged + 1,
            acknowledged: *acknowledged,
        });
        check(&History {
            sent: sent.collect(),
            received: received.to_vec(),
            receivers: received.last().map_or(1, |last| last.by + 1),
        })
    }

    const NOTHING: InWork = InWork { lost: 0, again: 0 };

    #[test]
    fn all_in_order_is_right() {
        let three = [one(RECV, 0), one(RECV, 1), one(RECV, 2)];
        assert_eq!(checked(&[3], &three), Ok(NOTHING));
        // The last one was not acknowledged, and was sent or not.
        assert_eq!(checked(&[2], &three), Ok(NOTHING));
        assert_eq!(checked(&[0], &[]), Ok(NOTHING));
        let lives = [one(RECV, 0), of_life(2, RECV, 0), of_life(2, RECV_REF, 1)];
        assert_eq!(checked(&[1, 0, 1], &lives), Ok(NOTHING));
    }

    #[test]
    fn what_is_lost_is_found() {
        for (received, place) in [
            (vec![one(RECV, 1)], 0),
            (vec![one(RECV, 0), one(RECV, 2)], 1),
            (vec![one(RECV, 0)], 1),
        ] {
            assert_eq!(checked(&[2], &received), Err((place, Flaw::Lost)));
        }
        // All of a life, or its end.
        let lives = [one(RECV, 0), of_life(2, RECV, 0)];
        assert_eq!(checked(&[1, 1, 1], &lives), Err((1, Flaw::Lost)));
        assert_eq!(checked(&[2, 0, 1], &lives), Err((1, Flaw::Lost)));
        // Not acknowledged, but its successor was sent.
        let begun = History {
            sent: vec![Sent {
                begun: 4,
                acknowledged: 0,
            }],
            received: vec![one(RECV, 0), one(RECV, 2)],
            receivers: 1,
        };
        assert_eq!(check(&begun), Err((1, Flaw::Lost)));
    }

    #[test]
    fn as_many_as_were_in_work_may_be_lost() {
        let skips = |by, then_by, skipped| {
            let received = [one(by, 0), one(then_by, 1 + skipped)];
            checked(&[2 + skipped], &received)
        };
        let lost = |lost| Ok(InWork { lost, again: 0 });
        assert_eq!(skips(RECV, RECV_MANY, 1), lost(1));
        assert_eq!(skips(RECV, RECV_MANY, 2), Err((1, Flaw::Lost)));
        let most = MANY as u64;
        assert_eq!(skips(RECV_MANY, RECV_REF, most), lost(most));
        assert_eq!(skips(RECV_MANY, RECV_REF, most + 1), Err((1, Flaw::Lost)));
        assert_eq!(skips(RECV, RECV_REF, most + 1), lost(most + 1));
        assert_eq!(skips(RECV_REF, RECV_REF_TOO, 1), Err((1, Flaw::Lost)));
    }

    #[test]
    fn what_comes_twice_is_found() {
        for by in [RECV, RECV_MANY, RECV_REF] {
            let twice = [one(by, 0), one(by, 0)];
            assert_eq!(checked(&[1], &twice), Err((1, Flaw::Again)));
            let later = [one(by, 0), one(by, 1), one(by, 0)];
            assert_eq!(checked(&[2], &later), Err((2, Flaw::Again)));
        }
        // Who takes messages has taken them, and who does not has one.
        let taken = [one(RECV, 0), again(RECV_REF, 0)];
        assert_eq!(checked(&[1], &taken), Err((1, Flaw::Again)));
        let two = [
            one(RECV_REF, 0),
            one(RECV_REF, 1),
            again(RECV_REF_TOO, 0),
            again(RECV_REF_TOO, 1),
        ];
        assert_eq!(checked(&[2], &two), Err((2, Flaw::Again)));
    }

    #[test]
    fn what_comes_again_after_a_death_says_so() {
        let twice = |second| checked(&[1], &[one(RECV_REF, 0), second]);
        let once_more = Ok(InWork { lost: 0, again: 1 });
        assert_eq!(twice(again(RECV_REF_TOO, 0)), once_more);
        assert_eq!(twice(one(RECV_REF_TOO, 0)), Err((1, Flaw::NotMarked)));
        // `recv` has no way to say so.
        assert_eq!(twice(one(RECV_REF + 2, 0)), once_more);
    }

    #[test]
    fn what_says_that_it_comes_again_was_in_somebodys_hands() {
        // It may have died before it wrote that down.
        let looked_at = [one(RECV_REF, 0), again(RECV_REF_TOO, 1)];
        assert_eq!(checked(&[2], &looked_at), Ok(NOTHING));
        let by_itself = [one(RECV_REF, 0), again(RECV_REF, 1)];
        assert_eq!(checked(&[2], &by_itself), Err((1, Flaw::Marked)));
        let taken = [one(RECV_MANY, 0), again(RECV_REF, 1)];
        assert_eq!(checked(&[2], &taken), Err((1, Flaw::Marked)));
    }

    #[test]
    fn what_is_out_of_order_is_found() {
        let swapped = [one(RECV, 0), one(RECV, 2), one(RECV, 1)];
        assert_eq!(checked(&[3], &swapped), Err((1, Flaw::OutOfOrder)));
        // Even if it could have been lost.
        let late = [one(RECV, 0), one(RECV_MANY, 2), one(RECV_MANY, 1)];
        assert_eq!(checked(&[3], &late), Err((1, Flaw::OutOfOrder)));
        let lives = [of_life(1, RECV, 0), one(RECV, 0)];
        assert_eq!(checked(&[1, 1], &lives), Err((0, Flaw::OutOfOrder)));
    }

    #[test]
    fn what_was_not_sent_or_is_not_whole_is_found() {
        assert_eq!(
            checked(&[1], &[one(RECV, 0), one(RECV, 2)]),
            Err((1, Flaw::NotSentYet))
        );
        let early = Received {
            begun: 0,
            ..one(RECV, 0)
        };
        assert_eq!(checked(&[1], &[early]), Err((0, Flaw::NotSentYet)));
        let unknown = of_life(1, RECV, 0);
        assert_eq!(checked(&[0], &[unknown]), Err((0, Flaw::NotSentYet)));
        let broken = Received {
            is_whole: false,
            ..one(RECV, 0)
        };
        assert_eq!(checked(&[1], &[broken]), Err((0, Flaw::Broken)));
    }
}
