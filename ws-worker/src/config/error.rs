//! What an operator reads when a configuration cannot be used: where, what, and what would be right.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used. Shown with file, line and column, the line itself, and what would be right.
#[derive(Debug)]
pub struct ConfigError {
    at: At,
    message: String,
    help: Option<String>,
}

#[derive(Debug)]
enum At {
    Line {
        file: PathBuf,
        line: usize,
        column: usize,
        text: String,
        /// Characters to mark.
        width: usize,
    },
    File(PathBuf),
    Flag(String),
    Nowhere,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Line {
                file, line, column, ..
            } => write!(f, "{}:{line}:{column}: ", file.display())?,
            At::File(file) => write!(f, "{}: ", file.display())?,
            At::Flag(flag) => write!(f, "--{flag}: ")?,
            At::Nowhere => {}
        }
        f.write_str(&self.message)?;
        if let At::Line {
            line,
            column,
            text,
            width,
            ..
        } = &self.at
        {
            let number = line.to_string();
            let gutter = " ".repeat(number.len());
            let indent = " ".repeat(column.saturating_sub(1));
            let carets = "^".repeat(*width);
            write!(
                f,
                "\n{gutter} |\n{number} | {text}\n{gutter} | {indent}{carets}"
            )?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  = {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// Returns an error about a file of which nothing is known.
    pub(crate) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        Self {
            at: At::File(file.to_owned()),
            message: format!("cannot be read: {error}"),
            help: missing.then(|| {
                "name a file with --config, or an app with --app; `ws-worker demo` needs neither"
                    .to_owned()
            }),
        }
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Bytes of the file.
    File(Range<usize>),
    /// The flag of this name, without its dashes.
    Flag(String),
    /// Nowhere in particular: something is missing.
    Whole,
}

/// What is wrong with a value, before the file is at hand to show it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    place: Place,
    message: String,
    help: Option<String>,
}

impl Wrong {
    pub(crate) fn new(place: &Place, message: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            message: message.into(),
            help: None,
        }
    }

    /// Says what would be right.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Names the key whose value it is: a list may go on over many lines. A flag's place is its name already.
    pub(crate) fn of(mut self, key: &str) -> Self {
        if matches!(self.place, Place::File(_)) {
            self.message = format!("`{key}`: {}", self.message);
        }
        self
    }

    /// Returns message and help in one line, for a flag that clap shows itself.
    pub(crate) fn in_a_line(self) -> String {
        match self.help {
            Some(help) => format!("{}; {help}", self.message),
            None => self.message,
        }
    }
}

/// The file that places point into; `None` where there are only flags.
pub(crate) struct Source<'a>(pub(crate) Option<(&'a Path, &'a str)>);

impl Source<'_> {
    /// Returns the line of a place, as in `FILE:LINE`.
    pub(crate) fn line(&self, place: &Place) -> String {
        match (place, self.0) {
            (Place::File(span), Some((_, text))) => {
                format!("line {}", Located::find(text, span).line)
            }
            (Place::Flag(flag), _) => format!("--{flag}"),
            (Place::File(_) | Place::Whole, _) => "the configuration".to_owned(),
        }
    }

    /// Shows what is wrong where it is wrong.
    pub(crate) fn error(&self, wrong: Wrong) -> ConfigError {
        let at = match (wrong.place, self.0) {
            (Place::File(span), Some((file, text))) => {
                let found = Located::find(text, &span);
                At::Line {
                    file: file.to_owned(),
                    line: found.line,
                    column: found.column,
                    text: found.text,
                    width: found.width,
                }
            }
            (Place::Flag(flag), _) => At::Flag(flag),
            (Place::Whole, Some((file, _))) => At::File(file.to_owned()),
            (Place::Whole | Place::File(_), None) => At::Nowhere,
        };
        ConfigError {
            at,
            message: wrong.message,
            help: wrong.help,
        }
    }
}

struct Located {
    line: usize,
    column: usize,
    text: String,
    width: usize,
}

impl Located {
    fn find(text: &str, span: &Range<usize>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let (line_start, line) = match before.rfind('\n') {
            Some(end) => (end + 1, before.matches('\n').count() + 1),
            None => (0, 1),
        };
        let whole = text.get(line_start..).unwrap_or_default();
        let whole = whole.split('\n').next().unwrap_or_default();
        let in_line = before.len() - line_start;
        let marked = whole
            .get(in_line..whole.len().min(in_line + span.len()))
            .unwrap_or_default();
        Self {
            line,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            // One column a character, so that the carets stand below what they mean.
            text: whole
                .trim_end_matches('\r')
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
            width: marked.trim_end().chars().count().max(1),
        }
    }
}
