//! Successors, each with a domain of its own: most of the time they wait for the lock of a dead
//! process, so there are many.

use super::picture::Picture;
use super::witness::Subject;
use crate::common::{Process, base};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const SUCCESSORS: usize = 16;

/// What a successor is to take up.
pub struct Job {
    /// After how many instructions.
    pub after: u64,
    pub picture: Arc<Picture>,
    pub subject: Subject,
    /// Who was killed, and in how many places of the roster he may be named.
    pub pid: u32,
    pub places: (usize, usize),
    /// In a process of its own.
    pub fresh: bool,
    pub reply: Sender<(u64, Found)>,
}

/// What it found, or why it could not.
pub type Found = Result<Vec<String>, String>;

pub struct Pool {
    jobs: Option<SyncSender<Job>>,
    successors: Vec<JoinHandle<()>>,
}

impl Pool {
    pub fn new(name: &str) -> Pool {
        let (jobs, theirs) = sync_channel(SUCCESSORS);
        let theirs = Arc::new(Mutex::new(theirs));
        let successors = (0..SUCCESSORS).map(|i| {
            let (domain, jobs) = (format!("{name}-copy-{i}"), theirs.clone());
            std::thread::spawn(move || work(&domain, &jobs))
        });
        Pool {
            jobs: Some(jobs),
            successors: successors.collect(),
        }
    }

    pub fn ask(&self, job: Job) {
        self.jobs.as_ref().unwrap().send(job).unwrap();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for successor in self.successors.drain(..) {
            let _ = successor.join();
        }
    }
}

fn work(domain: &str, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap().recv();
        let Ok(job) = job else { return };
        let found = catch_unwind(AssertUnwindSafe(|| take_up(domain, &job)));
        let found = found.map_err(|why| match why.downcast::<String>() {
            Ok(why) => *why,
            Err(_) => "a panic".to_string(),
        });
        let _ = fs::remove_dir_all(base().join(domain));
        let _ = job.reply.send((job.after, found));
    }
}

fn take_up(domain: &str, job: &Job) -> Vec<String> {
    let places = job.picture.put(&base().join(domain), job.pid);
    let (least, most) = job.places;
    assert!((least..=most).contains(&places), "named {places} times");
    if !job.fresh {
        return job.subject.witness(domain);
    }
    let which = Subject::ALL.iter().position(|it| *it == job.subject);
    let which = which.unwrap().to_string();
    let mut process = Process::start("witness", &[domain, &which]);
    let mut found = Vec::new();
    while let Some(line) = process.next_line() {
        found.push(line);
    }
    process.finish();
    found
}
