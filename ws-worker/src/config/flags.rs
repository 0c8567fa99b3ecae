//! The keys as flags: what the command line may say of a configuration. Knows clap, and no key by name.

use super::error::{Place, Wrong};
use super::key::{Group, KEYS, Key};
use super::raw::{Data, Table, Value};
use clap::{Arg, ArgAction, ArgMatches, Command};

/// What flags say; it wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides(pub(crate) Table);

/// A flag's value that cannot be used, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFlag(String);

impl std::fmt::Display for BadFlag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadFlag {}

impl Overrides {
    /// Sets a key by its name in the file, or `control` and `token_file`, to what a flag would say; a list grows.
    ///
    /// # Errors
    /// The caller's: there is no such key, or it cannot hold the value.
    pub fn set(&mut self, key: &str, written: &str) -> Result<(), BadFlag> {
        let value = match Key::find(key) {
            Some(key) => key.of_flag(written),
            None if CONTROL.contains(&key) => Ok(Value::of_flag(
                &key.replace('_', "-"),
                Data::Text(written.to_owned()),
            )),
            None => Err(Wrong::new(&Place::Whole, format!("unknown key `{key}`"))),
        };
        let value = value.map_err(|wrong| BadFlag(wrong.in_a_line()))?;
        self.put(key, value);
        Ok(())
    }

    /// Returns whether a key was set.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some()
    }

    fn put(&mut self, name: &str, mut value: Value) {
        if Key::find(name).is_some_and(Key::is_list)
            && let Some(before) = self.0.get(name)
        {
            let mut items = before.value.each().to_vec();
            items.extend_from_slice(value.each());
            value.data = Data::List(items);
        }
        self.0.set(name, value);
    }
}

/// Flags that are no keys at the top of the file but those of `[control]`.
const CONTROL: [&str; 2] = ["control", "token_file"];

/// Flags of the keys for a command; `HOOKS`: whether it has apps.
#[derive(Clone, Debug, Default)]
pub struct Flags<const HOOKS: bool>(pub Overrides);

impl<const HOOKS: bool> clap::FromArgMatches for Flags<HOOKS> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in KEYS.iter().filter(|key| has_flag::<HOOKS>(key)) {
            for value in matches.get_many::<Value>(key.name).into_iter().flatten() {
                self.0.put(key.name, value.clone());
            }
        }
        for name in CONTROL {
            if let Some(text) = matches.get_one::<String>(name) {
                let value = Value::of_flag(&name.replace('_', "-"), Data::Text(text.clone()));
                self.0.put(name, value);
            }
        }
        Ok(())
    }
}

impl<const HOOKS: bool> clap::Args for Flags<HOOKS> {
    fn augment_args(mut command: Command) -> Command {
        let mut keys: Vec<&Key> = KEYS.iter().filter(|key| has_flag::<HOOKS>(key)).collect();
        // The app first: it is what `serve` is for.
        keys.sort_by_key(|key| key.name != "app");
        for key in keys {
            command = command.arg(flag(key));
            if key.name == "listen" {
                command = command.arg(
                    Arg::new("control")
                        .long("control")
                        .value_name("ADDR")
                        .help("Where the control API listens; on TCP it needs --token-file"),
                );
                command = command.arg(
                    Arg::new("token_file")
                        .long("token-file")
                        .value_name("FILE")
                        .help("File with the token that the control API asks for"),
                );
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn has_flag<const HOOKS: bool>(key: &Key) -> bool {
    match key.group {
        Group::Worker | Group::Time | Group::Limits => true,
        Group::Hooks => HOOKS,
        Group::FileOnly => false,
    }
}

fn flag(key: &'static Key) -> Arg {
    let help = match key.default {
        "" => key.help.to_owned(),
        default => format!("{} [default: {default}]", key.help),
    };
    let arg = Arg::new(key.name)
        .long(key.flag())
        .value_name(key.value_name())
        .help(help)
        .action(if key.is_list() {
            ArgAction::Append
        } else {
            ArgAction::Set
        })
        .value_parser(move |written: &str| {
            key.of_flag(written)
                .map_err(|wrong| BadFlag(wrong.in_a_line()))
        });
    match key.group {
        Group::Worker | Group::FileOnly => arg,
        Group::Hooks if key.name == "app" => arg,
        // The short help stays short; --help has everything.
        Group::Hooks => arg.help_heading("Hooks").hide_short_help(true),
        Group::Time => arg.help_heading("Time").hide_short_help(true),
        Group::Limits => arg.help_heading("Limits").hide_short_help(true),
    }
}
