//! Places in a TOML document: found, set and removed by path, with the layout around them kept.

use crate::stage::Kind;
use toml_edit::{Array, ArrayOfTables, Decor, InlineTable, Item, Key, Table, TableLike, Value};

/// What stands at a place.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Item(&'a Item),
    Value(&'a Value),
    Table(&'a Table),
}

impl Step<'_> {
    pub(super) fn is_list(self) -> bool {
        match self {
            Self::Item(item) => item.is_array() || item.is_array_of_tables(),
            Self::Value(value) => value.is_array(),
            Self::Table(_) => false,
        }
    }

    /// As a value that can stand anywhere.
    pub(super) fn value(self) -> Value {
        let value = match self {
            // Cannot fail: what was found is there.
            Self::Item(item) => item.clone().into_value().unwrap_or_else(|_| false.into()),
            Self::Value(value) => value.clone(),
            Self::Table(table) => table.clone().into_inline_table().into(),
        };
        value.decorated("", "")
    }

    /// On one line, without comments.
    pub(super) fn shown(self) -> String {
        shown(&self.value())
    }

    fn names(self) -> Vec<String> {
        let names = |table: &dyn TableLike| table.iter().map(|(name, _)| name.to_string()).collect();
        match self {
            Self::Item(item) => item.as_table_like().map(names).unwrap_or_default(),
            Self::Value(value) => value.as_inline_table().map(|table| names(table)).unwrap_or_default(),
            Self::Table(table) => names(table),
        }
    }
}

/// A value on one line, without comments.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(", "))
        }
        Value::InlineTable(table) if table.is_empty() => "{}".to_string(),
        Value::InlineTable(table) => {
            let entries: Vec<String> = table.iter().map(|(name, value)| format!("{name} = {}", shown(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        scalar => scalar.clone().decorated("", "").to_string(),
    }
}

/// What stands at a path; the items of lists are called by their number.
pub(super) fn find<'a>(item: &'a Item, path: &[&str]) -> Option<Step<'a>> {
    let Some((first, rest)) = path.split_first() else { return Some(Step::Item(item)) };
    match item {
        Item::Table(table) => find(table.get(first)?, rest),
        Item::ArrayOfTables(tables) => {
            let table = tables.get(first.parse().ok()?)?;
            match rest {
                [] => Some(Step::Table(table)),
                [first, rest @ ..] => find(table.get(first)?, rest),
            }
        }
        Item::Value(value) => find_value(value, path),
        Item::None => None,
    }
}

fn find_value<'a>(value: &'a Value, path: &[&str]) -> Option<Step<'a>> {
    let Some((first, rest)) = path.split_first() else { return Some(Step::Value(value)) };
    match value {
        Value::InlineTable(table) => find_value(table.get(first)?, rest),
        Value::Array(items) => find_value(items.get(first.parse().ok()?)?, rest),
        _ => None,
    }
}

/// The names that stand where the last part of a path was looked for.
pub(super) fn siblings(item: &Item, path: &[&str]) -> Vec<String> {
    let parent = path.split_last().map_or(path, |(_, parent)| parent);
    find(item, parent).map(Step::names).unwrap_or_default()
}

/// Sets the value at a path, and makes the tables on the way that are not there.
///
/// # Errors
/// Something on the way is neither a table nor a list, or a list that is too short.
pub(super) fn set(root: &mut Item, keys: &[Key], value: Value) -> Result<(), String> {
    // Tables of these depths have headers of their own; what is deeper stands inline.
    let headers = match keys.first().map(Key::get) {
        Some(first) if Kind::from_name(first).is_some() || ["defaults", "variant"].contains(&first) => 2,
        _ => 1,
    };
    set_item(root, keys, 0, headers, value)
}

fn set_item(item: &mut Item, keys: &[Key], at: usize, headers: usize, value: Value) -> Result<(), String> {
    match item {
        _ if at == keys.len() => {
            replace(item, value);
            Ok(())
        }
        Item::Table(table) => set_table(table, keys, at, headers, value),
        Item::ArrayOfTables(tables) => set_tables(tables, keys, at, value),
        Item::Value(old) => set_value(old, keys, at, value),
        Item::None => Err(format!("there is no `{}`", way(keys, at))),
    }
}

/// A value in the place of another keeps the white space and the comment around it.
fn replace(item: &mut Item, value: Value) {
    match (item, value) {
        (Item::Value(old), value) => replace_value(old, value),
        (Item::Table(old), Value::InlineTable(new)) => {
            let mut new = new.into_table();
            new.set_position(old.position());
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        (item, value) => *item = Item::Value(value),
    }
}

fn replace_value(old: &mut Value, value: Value) {
    let decor = old.decor().clone();
    *old = value;
    *old.decor_mut() = decor;
}

fn set_table(table: &mut Table, keys: &[Key], at: usize, headers: usize, value: Value) -> Result<(), String> {
    let key = &keys[at];
    if let Some(item) = table.get_mut(key.get()) {
        return set_item(item, keys, at + 1, headers.saturating_sub(1), value);
    }
    let indent = table.iter().last().and_then(|(last, item)| {
        let prefix = table.key(last).filter(|_| item.is_value())?.leaf_decor().prefix()?.as_str()?;
        Some(prefix.rsplit('\n').next().unwrap_or_default().to_string())
    });
    let item = match (new_value(&keys[at + 1..], value), headers) {
        (Value::InlineTable(inline), 1..) => {
            let mut table = inline.into_table();
            if headers > 1 {
                table.set_implicit(true);
                unfold(&mut table);
            }
            Item::Table(table)
        }
        (value, _) => Item::Value(value),
    };
    let mut key = Key::new(key.get());
    if let Some(indent) = indent.filter(|indent| !indent.is_empty()) {
        key.leaf_decor_mut().set_prefix(indent);
    }
    table.insert_formatted(&key, item);
    Ok(())
}

/// Tables inside a new table get headers too.
fn unfold(table: &mut Table) {
    let names: Vec<String> = table.iter().map(|(name, _)| name.to_string()).collect();
    for name in names {
        if let Some(Item::Value(Value::InlineTable(inline))) = table.get(&name) {
            let inner = inline.clone().into_table();
            table.insert(&name, Item::Table(inner));
        }
    }
}

/// The value below the keys that nothing has yet: `0` begins a list, a name a table.
fn new_value(keys: &[Key], value: Value) -> Value {
    keys.iter().rev().fold(value, |value, key| match key.get() {
        "0" => Value::Array(std::iter::once(value).collect()),
        _ => {
            let mut table = InlineTable::new();
            table.insert(key.get(), value);
            Value::InlineTable(table)
        }
    })
}

fn set_tables(tables: &mut ArrayOfTables, keys: &[Key], at: usize, value: Value) -> Result<(), String> {
    let place = number(keys, at, tables.len())?;
    if place == tables.len() {
        tables.push(Table::new());
    }
    let Some(table) = tables.get_mut(place) else { return Ok(()) };
    if at + 1 < keys.len() {
        return set_table(table, keys, at + 1, 0, value);
    }
    match value {
        Value::InlineTable(new) => {
            let mut new = new.into_table();
            new.set_position(table.position());
            *new.decor_mut() = table.decor().clone();
            *table = new;
            Ok(())
        }
        other => Err(format!("`{}` is a table: {} cannot stand there", way(keys, at + 1), kind_of(&other))),
    }
}

fn set_value(old: &mut Value, keys: &[Key], at: usize, value: Value) -> Result<(), String> {
    let Some(key) = keys.get(at) else {
        replace_value(old, value);
        return Ok(());
    };
    match old {
        Value::InlineTable(table) => match table.get_mut(key.get()) {
            Some(inner) => set_value(inner, keys, at + 1, value),
            None => {
                append(table, key.get(), new_value(&keys[at + 1..], value));
                Ok(())
            }
        },
        Value::Array(items) => {
            let place = number(keys, at, items.len())?;
            match items.get_mut(place) {
                Some(item) => set_value(item, keys, at + 1, value),
                None => {
                    push(items, new_value(&keys[at + 1..], value));
                    Ok(())
                }
            }
        }
        other => Err(format!("`{}` is {}: it has no `{}`", way(keys, at), kind_of(other), key.get())),
    }
}

/// A place in a list; its length is the place of a new item.
fn number(keys: &[Key], at: usize, length: usize) -> Result<usize, String> {
    let (list, key) = (way(keys, at), keys[at].get());
    let place: usize =
        key.parse().map_err(|_| format!("`{list}` is a list: its items are called 0, 1, … not `{key}`"))?;
    match place {
        place if place <= length => Ok(place),
        place => Err(format!("`{list}` has {length} items: {place} is none of them, {length} would be a new one")),
    }
}

fn append(table: &mut InlineTable, name: &str, value: Value) {
    let last = table.iter().last().map(|(name, _)| name.to_string());
    let prefix = last.as_deref().and_then(|last| Some(table.key(last)?.leaf_decor().clone()));
    let mut key = Key::new(name);
    let mut value = value;
    if let Some(last) = last.as_deref().and_then(|last| table.get_mut(last)) {
        move_suffix(last, &mut value);
        // On lines of their own, if the others are.
        if let Some(prefix) = prefix.filter(|decor| text(decor).contains('\n')) {
            key.leaf_decor_mut().set_prefix(text(&prefix));
        }
    }
    table.insert_formatted(&key, value);
}

fn push(items: &mut Array, mut value: Value) {
    let Some(last) = items.len().checked_sub(1) else { return items.push(value) };
    let prefix = items.get(last).map(|last| text(last.decor())).unwrap_or_default();
    let own_line = prefix.rsplit_once('\n').map(|(_, indent)| format!("\n{indent}"));
    if !items.trailing_comma()
        && let Some(last) = items.get_mut(last)
    {
        move_suffix(last, &mut value);
    }
    let mut prefix = own_line.unwrap_or_else(|| " ".to_string());
    // What stands after the comma of the last item, a comment, stays on its line.
    let trailing = items.trailing().as_str().unwrap_or_default().to_string();
    if let Some((comment, end)) = trailing.rsplit_once('\n') {
        prefix.insert_str(0, comment);
        items.set_trailing(format!("\n{end}"));
    }
    value.decor_mut().set_prefix(prefix);
    items.push_formatted(value);
}

/// What stood before the closing bracket stands there again.
fn move_suffix(last: &mut Value, new: &mut Value) {
    let suffix = last.decor().suffix().and_then(|suffix| suffix.as_str()).unwrap_or_default().to_string();
    last.decor_mut().set_suffix("");
    new.decor_mut().set_prefix(" ");
    new.decor_mut().set_suffix(suffix);
}

fn text(decor: &Decor) -> String {
    decor.prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_string()
}

fn way(keys: &[Key], count: usize) -> String {
    let parts: Vec<&str> = keys.iter().take(count).map(Key::get).collect();
    parts.join(".")
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}

/// Removes what stands at a path. It is there.
pub(super) fn remove(item: &mut Item, path: &[&str]) -> Result<(), String> {
    let Some((last, parent)) = path.split_last() else { return Ok(()) };
    let is_there = match parent.split_first() {
        None => remove_from(item, last),
        Some(_) => remove_below(item, parent, last),
    };
    if is_there { Ok(()) } else { Err(format!("`{}` cannot be removed", path.join("."))) }
}

fn remove_below(item: &mut Item, parent: &[&str], last: &str) -> bool {
    let Some((first, rest)) = parent.split_first() else { return remove_from(item, last) };
    match item {
        Item::Table(table) => table.get_mut(first).is_some_and(|item| remove_below(item, rest, last)),
        Item::ArrayOfTables(tables) => {
            let Some(table) = first.parse().ok().and_then(|place| tables.get_mut(place)) else { return false };
            match rest {
                [] => remove_entry(table, last),
                [first, rest @ ..] => table.get_mut(first).is_some_and(|item| remove_below(item, rest, last)),
            }
        }
        Item::Value(value) => remove_value(value, parent, last),
        Item::None => false,
    }
}

fn remove_from(item: &mut Item, last: &str) -> bool {
    match item {
        Item::Table(table) => remove_entry(table, last),
        Item::ArrayOfTables(tables) => {
            let Some(place) = last.parse().ok().filter(|place| *place < tables.len()) else { return false };
            tables.remove(place);
            true
        }
        Item::Value(value) => remove_value(value, &[], last),
        Item::None => false,
    }
}

/// A comment right above a key goes with it; what stands above that, after an empty line, stays.
fn remove_entry(table: &mut Table, name: &str) -> bool {
    let next = table.iter().skip_while(|(key, _)| *key != name).nth(1);
    let next = next.filter(|(_, item)| item.is_value()).map(|(key, _)| key.to_string());
    let Some((key, item)) = table.remove_entry(name) else { return false };
    let above = text(key.leaf_decor());
    if let Some((kept, _)) = above.rsplit_once("\n\n").filter(|_| item.is_value())
        && let Some(mut next) = next.as_deref().and_then(|next| table.key_mut(next))
    {
        let prefix = text(next.leaf_decor());
        next.leaf_decor_mut().set_prefix(format!("{kept}\n\n{}", prefix.trim_start_matches('\n')));
    }
    true
}

fn remove_value(value: &mut Value, parent: &[&str], last: &str) -> bool {
    if let Some((first, rest)) = parent.split_first() {
        let inner = match value {
            Value::InlineTable(table) => table.get_mut(first),
            Value::Array(items) => first.parse().ok().and_then(|place| items.get_mut(place)),
            _ => None,
        };
        return inner.is_some_and(|inner| remove_value(inner, rest, last));
    }
    match value {
        Value::InlineTable(table) => {
            let Some(removed) = table.remove(last) else { return false };
            let end = table.iter().last().map(|(name, _)| name.to_string());
            if let Some(end) = end.and_then(|end| table.get_mut(&end)) {
                keep_suffix(end, &removed);
            }
            true
        }
        Value::Array(items) => {
            let Some(place) = last.parse().ok().filter(|place| *place < items.len()) else { return false };
            let removed = items.remove(place);
            // What stands after the comma of an item, a comment, goes with it.
            match items.get_mut(place) {
                Some(next) => next.decor_mut().set_prefix(text(removed.decor())),
                None => {
                    let (before, trailing) = (text(removed.decor()), items.trailing().as_str().unwrap_or_default());
                    if let (Some((comment, _)), Some((_, end))) = (before.rsplit_once('\n'), trailing.rsplit_once('\n'))
                    {
                        let trailing = format!("{comment}\n{end}");
                        items.set_trailing(trailing);
                    }
                    if let Some(end) = place.checked_sub(1).and_then(|end| items.get_mut(end)) {
                        keep_suffix(end, &removed);
                    }
                }
            }
            true
        }
        _ => false,
    }
}

/// The new last item stands before the closing bracket as the removed one did.
fn keep_suffix(end: &mut Value, removed: &Value) {
    if let Some(suffix) = removed.decor().suffix().and_then(|suffix| suffix.as_str()) {
        let own = end.decor().suffix().and_then(|suffix| suffix.as_str()).unwrap_or_default();
        if own.is_empty() {
            end.decor_mut().set_suffix(suffix.to_string());
        }
    }
}
