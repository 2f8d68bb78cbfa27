//! Reads the lines of a schema table; `generate.py` documents the form.

/// A definition line and its fields.
#[derive(Clone, Debug)]
pub struct Definition {
    pub name: &'static str,
    /// The scalar that this definition stands for, such as `quantity`.
    pub alias: Option<&'static str>,
    pub atomic: bool,
    /// The names of required fields, joined by `,`, where they do not stand in the order of their numbers.
    pub required: Option<&'static str>,
    /// Of which fields one is set, with the field that says which: `DISCRIMINATOR:FIELD,FIELD`, or `:FIELD,FIELD` where none says it.
    pub union: Option<&'static str>,
    /// `GROUP/VERSION/KIND`
    pub kinds: Vec<&'static str>,
    pub fields: Vec<FieldLine>,
}

/// A field line.
#[derive(Clone, Debug)]
pub struct FieldLine {
    pub name: &'static str,
    pub type_name: &'static str,
    pub numbers: &'static str,
    pub flags: &'static str,
    pub default: Option<&'static str>,
    pub list: Option<&'static str>,
    pub map: Option<&'static str>,
    pub patch: Option<&'static str>,
    /// What values of a text, or of the texts in a list or map, may be: a list as JSON.
    pub values: Option<&'static str>,
}

/// All definitions of a table, in its order.
pub fn definitions(text: &'static str) -> Vec<Definition> {
    let mut found: Vec<Definition> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix(' ') {
            Some(field) => found.last_mut().expect("a table begins with a definition").fields.push(field_line(field)),
            None => found.push(head(line)),
        }
    }
    found
}

/// One definition of a table.
pub fn definition(text: &'static str, name: &str) -> Option<Definition> {
    let mut lines = text.lines().skip_while(|line| line.strip_prefix(name).is_none_or(|rest| !(rest.is_empty() || rest.starts_with(' '))));
    let mut definition = head(lines.next()?);
    definition.fields = lines.map_while(|line| line.strip_prefix(' ')).map(field_line).collect();
    Some(definition)
}

/// `(GROUP/VERSION/KIND, definition)` of every kind in a table.
pub fn kinds(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.lines().filter(|line| !line.starts_with(' ')).flat_map(|line| {
        let head = head(line);
        head.kinds.into_iter().map(move |kind| (kind, head.name))
    })
}

/// `(definition, scalar)` of every definition that stands for a scalar.
pub fn aliases(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| head(line).alias.map(|alias| (head(line).name, alias)))
}

fn head(line: &'static str) -> Definition {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let mut definition = Definition { name, alias: None, atomic: false, required: None, union: None, kinds: Vec::new(), fields: Vec::new() };
    for word in words {
        match word.split_once('=') {
            Some(("alias", alias)) => definition.alias = Some(alias),
            Some(("map", map)) => definition.atomic = map == "atomic",
            Some(("required", names)) => definition.required = Some(names),
            Some(("union", union)) => definition.union = Some(union),
            Some(("kind", kind)) => definition.kinds.push(kind),
            _ => unreachable!("unknown word {word} in a schema table"),
        }
    }
    definition
}

fn field_line(line: &'static str) -> FieldLine {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (name, type_name, numbers, flags) = (word(), word(), word(), word());
    let mut field = FieldLine { name, type_name, numbers, flags, default: None, list: None, map: None, patch: None, values: None };
    for word in words {
        match word.split_once('=') {
            Some(("", default)) => field.default = Some(default),
            Some(("list", list)) => field.list = Some(list),
            Some(("map", map)) => field.map = Some(map),
            Some(("patch", patch)) => field.patch = Some(patch),
            Some(("enum", values)) => field.values = Some(values),
            _ => unreachable!("unknown word {word} in a schema table"),
        }
    }
    field
}
