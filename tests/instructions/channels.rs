//! Calls of a channel, with a kill at each of their instructions.

use super::harness::{Act, Harness, Victim, WHOLLY_OR_NOT};
use super::size;
use super::victim::{NAME, channel};
use super::witness::{Subject, bytes, shown};
use crate::common::{Process, base, hear, say, until};
use ringlane::{Channel, End};
use rustix::process::Signal;
use std::collections::VecDeque;
use std::os::unix::fs::FileExt;

/// What lies in one direction of a channel.
#[derive(Clone, Default)]
struct Queue(VecDeque<Vec<u8>>);

impl Queue {
    fn text(&self) -> String {
        let all: Vec<_> = self.0.iter().map(|value| shown(value)).collect();
        all.join(",")
    }

    /// The same, where the first message was handed out before.
    fn seen(&self) -> String {
        let all = self.0.iter().enumerate();
        let all: Vec<_> = all
            .map(|(i, value)| shown(value) + if i == 0 { "!" } else { "" })
            .collect();
        all.join(",")
    }

    fn and(&self, value: &[u8]) -> Queue {
        let mut longer = self.clone();
        longer.0.push_back(value.to_vec());
        longer
    }

    fn rest(&self) -> Queue {
        Queue(self.0.iter().skip(1).cloned().collect())
    }

    /// Whether a message of that length surely fits, wherever the lap ends.
    fn has_room(&self, len: usize) -> bool {
        let used: usize = self.0.iter().map(|value| value.len() + 16).sum();
        self.0.is_empty() || used + 2 * (len + 16) <= 4000
    }
}

/// What is found in a channel, by what the victim sends and receives at its end.
fn between(victim: End, sent: &str, to_receive: &str) -> String {
    match victim {
        End::Guest => format!("{to_receive}|{sent}"),
        End::Host => format!("{sent}|{to_receive}"),
    }
}

/// Both ends of a new channel: the victim's and ours.
fn pair(domain: &str, end: End, living: &mut Option<Channel<[u8]>>) -> Victim {
    let victim = match end {
        End::Guest => {
            *living = Some(channel(domain).create(NAME).unwrap());
            Victim::start(domain, &["open"])
        }
        End::Host => {
            let victim = Victim::start(domain, &["create"]);
            *living = Some(channel(domain).open(NAME).unwrap());
            victim
        }
    };
    victim.unwrap()
}

/// Lengths around those at which another way of copying begins, and the largest.
const LENS: [usize; 9] = [0, 8, 56, 255, 256, 264, 1000, 2040, 20];

pub fn sends(harness: &mut Harness) {
    for end in [End::Guest, End::Host] {
        harness.scene(size(3, 100), |harness, domain, living| {
            let mut victim = pair(domain, end, living);
            let mut queue = Queue::default();
            let lens = LENS.iter().cycle().take(size(9, 90));
            for (i, len) in lens.enumerate() {
                while !queue.has_room(*len) {
                    living.as_mut().unwrap().recv().unwrap();
                    queue = queue.rest();
                }
                let value = bytes(*len, i as u8);
                let after = queue.and(&value);
                let states = [&queue, &after].map(|queue| between(end, &queue.text(), ""));
                let in_place = i % 3 == 2;
                harness.act(
                    &mut victim,
                    &Act {
                        row: if in_place {
                            "`loan` and `commit`"
                        } else {
                            "`send`"
                        },
                        order: match in_place {
                            true => format!("loan {len} {}", i as u8),
                            false => format!("send {len} {}", i as u8),
                        },
                        subject: Subject::Channel,
                        states: states.to_vec(),
                        phases: if in_place {
                            &[(0, 0), (0, 1)]
                        } else {
                            WHOLLY_OR_NOT
                        },
                        joined: true,
                    },
                )?;
                queue = after;
            }
            victim.finish();
            Ok(())
        });
    }
}

pub fn receives(harness: &mut Harness) {
    for end in [End::Guest, End::Host] {
        harness.scene(size(3, 100), |harness, domain, living| {
            let mut victim = pair(domain, end, living);
            let mut queue = Queue::default();
            let mut sent = 0;
            for i in 0..size(9, 90) {
                while queue.0.is_empty() || (queue.has_room(LENS[sent % 9]) && queue.0.len() < 4) {
                    let value = bytes(LENS[sent % 9], sent as u8);
                    living.as_mut().unwrap().send(&value[..]).unwrap();
                    queue = queue.and(&value);
                    sent += 1;
                }
                let states = [queue.text(), queue.seen(), queue.rest().text()];
                let in_place = i % 2 == 1;
                harness.act(
                    &mut victim,
                    &Act {
                        row: if in_place {
                            "`recv_ref` and its drop"
                        } else {
                            "`recv`"
                        },
                        order: if in_place { "recv_ref" } else { "recv" }.to_string(),
                        subject: Subject::Channel,
                        states: states.map(|text| between(end, "", &text)).to_vec(),
                        phases: if in_place {
                            &[(0, 1), (1, 2)]
                        } else {
                            &[(0, 2)]
                        },
                        joined: true,
                    },
                )?;
                queue = queue.rest();
            }
            victim.finish();
            Ok(())
        });
    }
}

/// Where the file of a channel says whether its host sleeps for a message.
const PARKED: u64 = 1152;

/// A host that receives whenever it is told to.
pub fn sleep_and_receive(domain: &str) {
    let mut host = channel::<[u8]>(domain).create(NAME).unwrap();
    say("there");
    while hear().is_some() {
        say(shown(&host.recv().unwrap()));
    }
}

/// The receiver sleeps. It is stopped, lest it receive while the sender is looked at.
pub fn wakes(harness: &mut Harness) {
    harness.scene(0, |harness, domain, _| {
        let mut host = Process::start("sleeper", &[domain]);
        assert_eq!(host.line(), "there");
        let mut victim = Victim::start(domain, &["open"]).unwrap();
        for i in 0..size(2, 20) {
            host.tell("receive");
            let path = base().join(domain).join(format!("{NAME}.channel"));
            let file = std::fs::File::open(path).unwrap();
            until(|| {
                let mut word = [0; 4];
                file.read_exact_at(&mut word, PARKED).unwrap();
                word != [0; 4]
            });
            host.signal(Signal::STOP);
            until(|| host.state() == 'T');
            let value = bytes(8, i as u8);
            let after = Queue::default().and(&value);
            harness.act(
                &mut victim,
                &Act {
                    row: "`send` to one that sleeps",
                    order: format!("send 8 {}", i as u8),
                    subject: Subject::Channel,
                    states: vec!["|".to_string(), format!("|{}", after.text())],
                    phases: WHOLLY_OR_NOT,
                    joined: true,
                },
            )?;
            host.signal(Signal::CONT);
            assert_eq!(host.line(), shown(&value));
        }
        victim.finish();
        host.finish();
        Ok(())
    });
}

/// Sends three messages, and gives what lies there then.
fn some(end: &mut Channel<[u8]>) -> Queue {
    let lens = [8, 0, 300];
    let all = lens.map(|len| bytes(len, len as u8));
    all.iter().for_each(|value| end.send(&value[..]).unwrap());
    Queue(all.into())
}

pub fn attaches(harness: &mut Harness) {
    let times = size(1, 4);
    harness.scene(size(0, 20), |harness, domain, living| {
        *living = Some(channel(domain).create(NAME).unwrap());
        let queue = some(living.as_mut().unwrap());
        let state = format!("{}|", queue.text());
        let mut victim = Victim::start(domain, &[]).unwrap();
        for _ in 0..times {
            harness.act(&mut victim, &Act::unseen("`Channel::open`", "open", &state))?;
            harness.act(
                &mut victim,
                &Act::unseen("drop of a guest's channel", "leave", &state),
            )?;
        }
        victim.finish();
        Ok(())
    });
    // With nobody in the domain, then domain and roster are made, too; and with somebody.
    for alone in [true, false].into_iter().take(size(1, 2)) {
        harness.scene(size(0, 20), |harness, domain, _| {
            let beside = if alone {
                format!("{domain}-beside")
            } else {
                domain.to_string()
            };
            let _keeper = channel::<u64>(&beside).create("keeper").unwrap();
            let mut victim = Victim::start(domain, &[]).unwrap();
            for _ in 0..times {
                harness.act(
                    &mut victim,
                    &Act::unseen("`Channel::create`", "create", "|"),
                )?;
                harness.act(
                    &mut victim,
                    &Act::unseen("drop of a host's channel", "leave", "|"),
                )?;
            }
            victim.finish();
            Ok(())
        });
    }
}

pub fn takes_over(harness: &mut Harness) {
    harness.scene(size(0, 20), |harness, domain, living| {
        *living = Some(channel(domain).create(NAME).unwrap());
        let queue = some(living.as_mut().unwrap());
        for _ in 0..size(1, 4) {
            let mut first = Victim::start(domain, &["open"]).unwrap();
            first.obey("recv_ref", 2);
            first.kill();
            let mut second = Victim::start(domain, &[]).unwrap();
            let state = format!("{}|", queue.seen());
            harness.act(
                &mut second,
                &Act::unseen("`Channel::open` of a dead guest's", "open", &state),
            )?;
        }
        Ok(())
    });
    harness.scene(size(0, 20), |harness, domain, _| {
        let mut first = Victim::start(domain, &["create"]).unwrap();
        first.obey("send 300 7", 2);
        first.kill();
        for _ in 0..size(0, 4) {
            let mut victim = Victim::start(domain, &[]).unwrap();
            let row = "`Channel::create` of a dead host's";
            harness.act(&mut victim, &Act::unseen(row, "create", "300:7|"))?;
        }
        Ok(())
    });
}

pub fn closes(harness: &mut Harness) {
    let row = "drop of a host's channel";
    for _ in 0..size(1, 4) {
        // The guest is there, and the messages are its own.
        harness.scene(0, |harness, domain, _| {
            let mut victim = Victim::start(domain, &["create", "send 300 7"]).unwrap();
            let _guest: Channel<[u8]> = channel(domain).open(NAME).unwrap();
            let states = ["300:7|", "|"].map(String::from).to_vec();
            let phases = WHOLLY_OR_NOT;
            let leave = Act {
                states,
                phases,
                ..Act::unseen(row, "leave", "")
            };
            harness.act(&mut victim, &leave)?;
            victim.finish();
            Ok(())
        });
        // They wait for a guest.
        harness.scene(size(1, 20), |harness, domain, _| {
            let _keeper = channel::<u64>(domain).create("keeper").unwrap();
            let mut victim = Victim::start(domain, &["create", "send 300 7"]).unwrap();
            let leave = Act {
                subject: Subject::Closed,
                states: ["300:7", "300:7."].map(String::from).to_vec(),
                phases: WHOLLY_OR_NOT,
                ..Act::unseen(row, "leave", "")
            };
            harness.act(&mut victim, &leave)?;
            victim.finish();
            Ok(())
        });
    }
}
