//! The journal's file: opened once a worker, appended to, replaced by rename. Knows nothing of what is written.

use rustix::fs::{FlockOperation, flock};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read as _, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// How often another worker may put a new file in place while this one opens it.
const OPENINGS: usize = 8;
/// A closed hook carries cookies: nobody else may read it.
const MODE: u32 = 0o600;

/// Where records go.
pub(crate) trait Disk {
    /// Adds bytes at the end: all of them, or none, as far as the disk can be told to take some back.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Puts other content in place of the old in one step, so that a crash leaves one or the other.
    fn replace(&mut self, write: &mut WriteAll<'_>) -> io::Result<()>;

    /// Says that only the first bytes are of use.
    fn keep(&mut self, good: usize);

    /// Returns the length of what is there.
    fn len(&self) -> usize;
}

/// What writes a whole content.
pub(crate) type WriteAll<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// A file that this process alone writes.
#[derive(Debug)]
pub(crate) struct JournalFile {
    path: PathBuf,
    file: File,
    /// Bytes that are meant to be there; the next ones go behind them.
    good: usize,
    /// There is more in the file than that.
    torn: bool,
}

impl JournalFile {
    /// Opens a file, or makes it, and reads it.
    ///
    /// # Errors
    /// The system's; [`ErrorKind::ResourceBusy`] if another worker has it.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Vec<u8>)> {
        for _ in 0..OPENINGS {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(MODE)
                .open(path)?;
            lock(&file)?;
            let metadata = file.metadata()?;
            let there = std::fs::metadata(path)?;
            if (metadata.dev(), metadata.ino()) != (there.dev(), there.ino()) {
                continue; // Who held the lock has put another file in place meanwhile.
            }
            if !metadata.is_file() {
                return Err(io::Error::new(ErrorKind::InvalidInput, "it is no file"));
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            return Ok((
                Self {
                    path: path.to_owned(),
                    file,
                    good: bytes.len(),
                    torn: false,
                },
                bytes,
            ));
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    /// Takes back what a failed write left.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.good as u64)?;
            self.torn = false;
        }
        Ok(())
    }

    fn write_new(&self, path: &Path, write: &mut WriteAll<'_>) -> io::Result<(File, usize)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(MODE)
            .open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
        lock(&file)?;
        let mut out = BufWriter::with_capacity(256 * 1024, &file);
        write(&mut out)?;
        out.flush()?;
        drop(out);
        let length = file.metadata()?.len();
        std::fs::rename(path, &self.path)?;
        Ok((file, usize::try_from(length).unwrap_or(usize::MAX)))
    }
}

impl Disk for JournalFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.mend()?;
        if let Err(error) = self.file.write_all_at(bytes, self.good as u64) {
            self.torn = true;
            // If that fails too, it is tried again before the next write.
            let _ = self.mend();
            return Err(error);
        }
        self.good += bytes.len();
        Ok(())
    }

    fn replace(&mut self, write: &mut WriteAll<'_>) -> io::Result<()> {
        let mut name = OsString::from(&self.path);
        name.push(".new");
        let path = PathBuf::from(name);
        match self.write_new(&path, write) {
            Ok((file, length)) => {
                self.file = file; // The old one's lock goes with it.
                self.good = length;
                self.torn = false;
                Ok(())
            }
            Err(error) => {
                // It would take room, and the next attempt begins anew.
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn keep(&mut self, good: usize) {
        self.torn |= good < self.good;
        self.good = good;
    }

    fn len(&self) -> usize {
        self.good
    }
}

fn lock(file: &File) -> io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        rustix::io::Errno::WOULDBLOCK => ErrorKind::ResourceBusy.into(),
        errno => errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(file: &mut JournalFile, content: &[u8]) {
        file.replace(&mut |out| out.write_all(content)).unwrap();
    }

    #[test]
    fn what_is_appended_and_replaced_is_there_at_the_next_opening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut file, bytes) = JournalFile::open(&path).unwrap();
        assert_eq!(bytes, b"");
        file.append(b"one").unwrap();
        replace(&mut file, b"two");
        file.append(b"three").unwrap();
        drop(file);
        let (mut file, bytes) = JournalFile::open(&path).unwrap();
        assert_eq!(bytes, b"twothree");
        file.keep(3);
        file.append(b"!").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"two!");
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut file, _) = JournalFile::open(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        replace(&mut file, b"new");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn two_workers_do_not_share_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut file, _) = JournalFile::open(&path).unwrap();
        let busy = || JournalFile::open(&path).is_err_and(|e| e.kind() == ErrorKind::ResourceBusy);
        assert!(busy());
        replace(&mut file, b"new");
        assert!(busy());
        drop(file);
        assert!(!busy());
    }

    #[test]
    fn a_new_content_that_cannot_be_written_leaves_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut file, _) = JournalFile::open(&path).unwrap();
        file.append(b"old").unwrap();
        let full = |out: &mut dyn Write| {
            out.write_all(b"half")?;
            Err(ErrorKind::StorageFull.into())
        };
        assert!(file.replace(&mut { full }).is_err());
        assert!(!folder.path().join("journal.new").exists());
        file.append(b"er").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"older");
    }
}
