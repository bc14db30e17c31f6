//! What is wrong, and the removal of what the dead left.

use super::table::printable;
use super::{Options, line, tell};
use ringlane::Result;
use ringlane::inspect::{DomainInfo, Finding, Severity};

/// Something was found that is more than a note.
const FOUND: u8 = 3;

#[derive(serde::Serialize)]
struct Document<'a> {
    schema: &'static str,
    version: u32,
    findings: &'a [Finding],
}

/// All findings, the worst ones last, and the exit status.
pub fn check(options: &Options) -> Result<(String, u8)> {
    let mut findings = options.picture().doctor()?;
    findings.sort_by_key(|finding| finding.severity);
    let is_well = findings
        .iter()
        .all(|found| found.severity < Severity::Warning);
    let text = if options.json {
        line(&Document {
            schema: "ringlane.check",
            version: 1,
            findings: &findings,
        })
    } else {
        let lines = findings
            .iter()
            .map(|found| printable(&found.to_string()) + "\n");
        let end = if is_well { "nothing is wrong\n" } else { "" };
        lines.chain([end.to_string()]).collect()
    };
    Ok((text, if is_well { 0 } else { FOUND }))
}

/// Removes domains in which nobody lives, and tells what went and what could not.
pub fn clean(options: &Options) -> Result<(String, u8)> {
    let picture = options.picture().take()?;
    let mut text = String::new();
    let mut status = 0;
    for domain in &picture.domains {
        if options.domain.is_none() && !domain.is_left_behind() {
            continue;
        }
        match ringlane::remove_domain(&domain.name) {
            Ok(()) => text += &format!("removed {}: {}\n", domain.name, contents(domain)),
            Err(e) => {
                let why = printable(&e.to_string());
                tell(&format!("{} stays: {why}", domain.name));
                status = 1;
            }
        }
    }
    if text.is_empty() && status == 0 {
        text += "nothing to remove\n";
    }
    Ok((text, status))
}

fn contents(domain: &DomainInfo) -> String {
    let directions = domain
        .channels
        .iter()
        .flat_map(|channel| &channel.directions);
    let undelivered: u64 = directions.map(|direction| direction.undelivered).sum();
    // What is damaged may say any number.
    let keys = domain.stores.iter().map(|store| store.keys);
    let keys = keys.fold(0, u64::saturating_add);
    let mut text = format!(
        "{} channels with {undelivered} undelivered messages, {} stores with {keys} keys",
        domain.channels.len(),
        domain.stores.len(),
    );
    if domain.unread > 0 {
        text += &format!(", {} files that could not be read", domain.unread);
    }
    text
}
