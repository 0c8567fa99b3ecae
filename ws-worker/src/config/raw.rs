//! The file as written: tables, keys and values, each with its place in the text, and values as flags give them. Knows
//! no key's meaning.
//!
//! This is a tree and not a set of structs: serde refuses places inside flattened and untagged types, and every message
//! here names line and column, of the key as well as of the value.

use super::error::{Place, Wrong};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table: keys in the order of the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

/// One key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    pub(crate) data: Data,
    pub(crate) place: Place,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Text(String),
    /// Beyond 64 bits: saturated, which no bound of ours allows.
    Integer(i64),
    Boolean(bool),
    List(Vec<Value>),
    Table(Table),
    /// Floats and dates: no key of ours holds one.
    Other,
}

impl Table {
    /// Reads a file's text.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Self::from_toml(table.into_inner())),
            Err(error) => {
                let place = error.span().map_or(Place::Whole, Place::File);
                Err(Wrong::new(&place, error.message().replace('\n', ", ")))
            }
        }
    }

    /// Finds a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Sets a key, over what it held.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.entries.retain(|entry| entry.key != key);
        self.entries.push(Entry {
            key: key.to_owned(),
            place: value.place.clone(),
            value,
        });
    }

    fn from_toml(table: DeTable<'_>) -> Self {
        let mut entries: Vec<_> = table
            .into_iter()
            .map(|(key, value)| Entry {
                place: Place::File(key.span()),
                key: key.into_inner().into_owned(),
                value: Value::from_toml(value),
            })
            .collect();
        entries.sort_by_key(|entry| match &entry.place {
            Place::File(span) => span.start,
            Place::Flag(_) | Place::Whole => 0,
        });
        Self { entries }
    }
}

impl Value {
    /// Wraps what a flag said.
    pub(crate) fn of_flag(flag: &str, data: Data) -> Self {
        Self {
            data,
            place: Place::Flag(flag.to_owned()),
        }
    }

    /// Returns the values of a list, or this one alone.
    pub(crate) fn each(&self) -> &[Self] {
        match &self.data {
            Data::List(values) => values,
            Data::Text(_) | Data::Integer(_) | Data::Boolean(_) | Data::Table(_) | Data::Other => {
                std::slice::from_ref(self)
            }
        }
    }

    fn from_toml(value: Spanned<DeValue<'_>>) -> Self {
        let place = Place::File(value.span());
        let data = match value.into_inner() {
            DeValue::String(text) => Data::Text(text.into_owned()),
            DeValue::Integer(number) => Data::Integer(
                i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX),
            ),
            DeValue::Boolean(boolean) => Data::Boolean(boolean),
            DeValue::Array(values) => Data::List(values.into_iter().map(Self::from_toml).collect()),
            DeValue::Table(table) => Data::Table(Table::from_toml(table)),
            DeValue::Float(_) | DeValue::Datetime(_) => Data::Other,
        };
        Self { data, place }
    }
}

impl Data {
    /// Returns what a message calls it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a bare number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other => "a float or a date",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_the_order_of_the_text() {
        let table = Table::parse("b = 1\na = [true, 'x']\n[t]\nc = 1.5\n").unwrap();
        let keys: Vec<_> = table
            .entries
            .iter()
            .map(|entry| entry.key.as_str())
            .collect();
        assert_eq!(keys, ["b", "a", "t"]);
        assert_eq!(table.get("a").unwrap().place, Place::File(6..7));
        assert_eq!(table.get("a").unwrap().value.each().len(), 2);
        assert_eq!(table.get("b").unwrap().value.each().len(), 1);
    }

    #[test]
    fn what_is_set_last_holds() {
        let mut table = Table::default();
        table.set("a", Value::of_flag("a", Data::Integer(1)));
        table.set("a", Value::of_flag("a", Data::Integer(2)));
        assert_eq!(table.entries.len(), 1);
        assert_eq!(table.get("a").unwrap().value.data, Data::Integer(2));
    }
}
