//! The form of the vocabulary: what a field is, and what this version does with it.
//!
//! The tables themselves are in `vocabulary` (the fields of a Pod) and `volumes`. One table serves
//! the strict reader, `podctl explain` and the list of supported fields in the documentation, so
//! that none of them can disagree with the others.

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It is acted on.
    Yes,
    /// Only these values are acted on (the first is the default); others are an error.
    Only(&'static [&'static str]),
    /// It is known and changes what a pod does, but is not built: an error.
    NotYet,
    /// It has no meaning here, for this reason; it is left out and one warning says so.
    Irrelevant(&'static str),
}

/// What kind of value a field takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number in this range.
    Int(i64, i64),
    /// A resource quantity.
    Quantity,
    /// A port: a number or a name.
    IntOrText,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An object with these fields.
    Object(&'static Object),
    /// A list.
    List(&'static Kind),
    /// Keys of one's own, with values of one kind.
    Map(&'static Kind),
    /// Whatever is written; for what has no meaning here.
    Any,
}

/// One field of an object.
#[derive(Debug)]
pub struct Field {
    /// Its name, as it is written.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What is done with it.
    pub support: Support,
    /// What it is for, in one line.
    pub about: &'static str,
}

/// A kind of object: its name in the API, and its fields.
#[derive(Debug)]
pub struct Object {
    /// The name of its type, such as `PodSpec`.
    pub name: &'static str,
    /// Every field that the API knows.
    pub fields: &'static [Field],
}

impl Object {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// A field that is acted on.
pub(super) const fn yes(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field {
        name,
        kind,
        support: Support::Yes,
        about,
    }
}

/// A field that is not built yet.
pub(super) const fn not_yet(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field {
        name,
        kind,
        support: Support::NotYet,
        about,
    }
}

/// A field of which only these values are acted on.
pub(super) const fn only(
    name: &'static str,
    kind: Kind,
    values: &'static [&'static str],
    about: &'static str,
) -> Field {
    Field {
        name,
        kind,
        support: Support::Only(values),
        about,
    }
}

/// A field without a meaning here.
pub(super) const fn irrelevant(
    name: &'static str,
    kind: Kind,
    why: &'static str,
    about: &'static str,
) -> Field {
    Field {
        name,
        kind,
        support: Support::Irrelevant(why),
        about,
    }
}
