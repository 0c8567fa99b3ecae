//! A folder whose files are endpoints: `/foo/bar` is `<root>/foo/bar_wsh.php`, once that file is there. Knows no hook.
//!
//! A name is checked twice. Its spelling alone refuses what could lead elsewhere: dots, empty segments, anything encoded
//! twice. Then the file itself is looked at, links followed: it must be a file and lie below the root. That is a few system
//! calls on names which the kernel knows, made for handshakes alone and at most once a second a name; a thread to do them
//! would cost more than they do. FastCGI's side opens the file by name again later, so holding it open here, as by `openat2`,
//! would prove nothing; who may put links below the root may put scripts there as well.

use crate::clock::Clock;
use crate::config;
use crate::hook::fastcgi::decoded;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ws_proto::Instant;

/// What was seen is believed for so long.
const FRESH: Duration = Duration::from_secs(1);
/// Names that are remembered.
const MAX_KNOWN: usize = 1024;
/// Bytes of a name that a file system takes.
const MAX_NAME: usize = 255;
/// Bytes of a path below the root.
const MAX_PATH: usize = 1024;

/// A folder of scripts.
pub(crate) struct Docroot {
    root: PathBuf,
    suffix: String,
    clock: Clock,
    known: RefCell<HashMap<String, (bool, Instant)>>,
}

impl Docroot {
    /// Prepares a folder.
    pub(crate) fn new(docroot: &config::Docroot, clock: Clock) -> Self {
        Self {
            root: docroot.root.clone(),
            suffix: docroot.suffix.clone(),
            clock,
            known: RefCell::default(),
        }
    }

    /// Finds the script for what follows the route's path, as the client wrote it: its name below the root, with a slash in
    /// front.
    pub(crate) fn find(&self, below: &str) -> Option<String> {
        let name = name(below, &self.suffix)?;
        let now = self.clock.now();
        let mut known = self.known.borrow_mut();
        if let Some((is_there, at)) = known.get(&name)
            && now < *at + FRESH
        {
            return is_there.then_some(name);
        }
        let is_there = is_inside(&self.root, &name);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(name.clone(), (is_there, now));
        is_there.then_some(name)
    }
}

/// Makes a file's name of a path; `None` if it could mean anything else.
fn name(below: &str, suffix: &str) -> Option<String> {
    let mut name = String::with_capacity(below.len() + suffix.len() + 1);
    for segment in below.split('/') {
        let segment = String::from_utf8(decoded(segment.as_bytes())).ok()?;
        // A `%` that is left was encoded twice, or stands for a control character.
        let is_odd = |c: char| matches!(c, '/' | '\\' | '%' | ';' | ':') || c.is_control();
        if segment.is_empty()
            || segment.starts_with('.')
            || segment.contains(is_odd)
            || segment.len() + suffix.len() > MAX_NAME
        {
            return None;
        }
        name.push('/');
        name.push_str(&segment);
    }
    name.push_str(suffix);
    (name.len() <= MAX_PATH).then_some(name)
}

fn is_inside(root: &Path, name: &str) -> bool {
    let file = root.join(name.trim_start_matches('/'));
    let (Ok(root), Ok(file)) = (root.canonicalize(), file.canonicalize()) else {
        return false;
    };
    file.starts_with(root) && file.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_file_or_nothing() {
        let named = |path: &str| name(path, "_wsh.php");
        assert_eq!(named("foo/bar").as_deref(), Some("/foo/bar_wsh.php"));
        assert_eq!(named("%e3%81%82 b").as_deref(), Some("/\u{3042} b_wsh.php"));
        for path in [
            "",
            "/",
            "foo/",
            "foo//bar",
            ".",
            "..",
            "../foo",
            "foo/../bar",
            "%2e%2e/foo",
            ".git/x",
            "foo/.hidden",
            "foo%2fbar",
            "foo%5cbar",
            "foo\\bar",
            "foo%00",
            "foo%0a",
            "%252e%252e/foo",
            "foo;x",
            "C:foo",
            "%ff",
            "foo%",
        ] {
            assert_eq!(named(path), None, "{path}");
        }
        assert_eq!(named(&"x".repeat(250)), None);
        assert_eq!(named(&"x/".repeat(1000)), None);
    }

    #[test]
    fn a_file_must_be_there_and_below_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::create_dir(root.join("folder_wsh.php")).unwrap();
        std::fs::write(folder.path().join("out_wsh.php"), "").unwrap();
        std::fs::write(root.join("sub/in_wsh.php"), "").unwrap();
        for (link, target) in [
            ("link_wsh.php", "sub/in_wsh.php"),
            ("leak_wsh.php", "../out_wsh.php"),
            ("up", ".."),
        ] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let found = |path| {
            let docroot = config::Docroot {
                root: root.clone(),
                suffix: "_wsh.php".to_owned(),
            };
            Docroot::new(&docroot, Clock::start()).find(path)
        };
        assert_eq!(found("sub/in").as_deref(), Some("/sub/in_wsh.php"));
        assert_eq!(found("link").as_deref(), Some("/link_wsh.php"));
        for path in ["folder", "leak", "up/out", "nothing", "sub"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn what_was_seen_is_believed_for_a_moment_and_names_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let docroot = config::Docroot {
            root: folder.path().to_owned(),
            suffix: ".php".to_owned(),
        };
        let docroot = Docroot::new(&docroot, Clock::start());
        assert_eq!(docroot.find("a"), None);
        std::fs::write(folder.path().join("a.php"), "").unwrap();
        assert_eq!(docroot.find("a"), None);
        docroot.known.borrow_mut().clear();
        assert!(docroot.find("a").is_some());
        for n in 0..3000 {
            assert_eq!(docroot.find(&format!("x{n}")), None);
        }
        assert!(docroot.known.borrow().len() <= MAX_KNOWN);
    }
}
