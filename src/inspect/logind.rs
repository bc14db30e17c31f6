//! Whether systemd-logind removes what a user has in `/dev/shm` when the user's last login ends.

use super::{Finding, Severity};
use crate::domain;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The last uid of a system user, whose files stay. It can be changed only where systemd is built.
const LAST_OF_SYSTEM: u32 = 999;

/// For a user who has domains: each logout may be the last one, and a child that is restarted then
/// does not find its place.
pub(super) fn examine() -> Option<Finding> {
    let uid = rustix::process::geteuid().as_raw();
    let is_there = domain::base().starts_with("/dev/shm");
    let why = (is_there && uid > LAST_OF_SYSTEM).then(|| removes_ipc(Path::new("/"), uid))??;
    Some(Finding::new(
        Severity::Warning,
        "systemd",
        format!(
            "when the last login of user {uid} ends, systemd removes what that user has in \
             /dev/shm, also while processes use it: RemoveIPC is yes, {why}"
        ),
        "set RemoveIPC=no in logind.conf, use a system user, `loginctl enable-linger` the user, or \
         set RINGLANE_DIR to another tmpfs",
    ))
}

/// Who says so; `None` if nobody does.
fn removes_ipc(root: &Path, uid: u32) -> Option<String> {
    // What systemd itself takes for a sign that it runs.
    if !root.join("run/systemd/system").is_dir() || lingers(root, uid) {
        return None;
    }
    // The default, until a file says something else.
    let (mut yes, mut why) = (true, "which is the default".to_string());
    for file in configuration(root) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if let Some(said) = setting(&text) {
            (yes, why) = (said, format!("as {} says", file.display()));
        }
    }
    yes.then_some(why)
}

/// Such a user always counts as logged in.
fn lingers(root: &Path, uid: u32) -> bool {
    let users = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    let mut names = users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    let lingering = root.join("var/lib/systemd/linger");
    names.any(|name| lingering.join(name).exists())
}

/// The files that configure logind, the one that counts most last: the first main file there is, and
/// then all drop-ins by name, of which one in an earlier directory hides its namesakes.
fn configuration(root: &Path) -> Vec<PathBuf> {
    let directories = ["etc", "run", "usr/local/lib", "usr/lib"];
    let places = || directories.iter().map(|dir| root.join(dir).join("systemd"));
    let main = places().map(|place| place.join("logind.conf"));
    let mut files: Vec<_> = main.filter(|file| file.exists()).take(1).collect();
    let mut drop_ins = BTreeMap::new();
    for place in places() {
        let entries = fs::read_dir(place.join("logind.conf.d"));
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "conf") {
                drop_ins.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    files.extend(drop_ins.into_values());
    files
}

/// What a file says of RemoveIPC in its last word on it.
fn setting(text: &str) -> Option<bool> {
    let mut in_login = false;
    let mut said = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_login = line == "[Login]";
        } else if let Some((name, value)) = line.split_once('=') {
            if in_login && name.trim() == "RemoveIPC" {
                said = match &*value.trim().to_ascii_lowercase() {
                    "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
                    "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
                    // What it does not understand it passes over.
                    _ => said,
                };
            }
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_remove_ipc_counts() {
        let root = std::env::temp_dir().join(format!("test-logind-{}", std::process::id()));
        let write = |file: &str, text: &str| {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let says = |uid| removes_ipc(&root, uid).unwrap_or_default();
        assert_eq!(says(1000), "", "systemd does not run");
        fs::create_dir_all(root.join("run/systemd/system")).unwrap();
        assert_eq!(says(1000), "which is the default");
        write("etc/systemd/logind.conf", "[Login]\n#RemoveIPC=no\n");
        assert_eq!(says(1000), "which is the default");
        write(
            "etc/systemd/logind.conf",
            "[Other]\nRemoveIPC=no\n[Login]\nRemoveIPC = off \n",
        );
        // Hidden by the first main file.
        write("usr/lib/systemd/logind.conf", "[Login]\nRemoveIPC=yes\n");
        assert_eq!(says(1000), "");
        write(
            "usr/lib/systemd/logind.conf.d/20-a.conf",
            "[Login]\nRemoveIPC=1\nRemoveIPC=what\n",
        );
        assert!(says(1000).ends_with("20-a.conf says"), "{}", says(1000));
        write(
            "run/systemd/logind.conf.d/10-b.conf",
            "[Login]\nRemoveIPC=no\n",
        );
        assert!(says(1000).ends_with("20-a.conf says"), "{}", says(1000));
        // Hides its namesake.
        write("etc/systemd/logind.conf.d/20-a.conf", "");
        assert_eq!(says(1000), "");
        write(
            "etc/systemd/logind.conf.d/30-c.conf.old",
            "[Login]\nRemoveIPC=yes\n",
        );
        assert_eq!(says(1000), "");
        write(
            "etc/systemd/logind.conf.d/30-c.conf",
            "[Login]\nRemoveIPC=yes\n",
        );
        write(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/:/bin/sh\nodd\n",
        );
        assert!(says(1000).ends_with("30-c.conf says"), "{}", says(1000));
        write("var/lib/systemd/linger/ada", "");
        assert_eq!(says(1000), "");
        assert_ne!(says(1001), "");
        fs::remove_dir_all(root).unwrap();
    }
}
