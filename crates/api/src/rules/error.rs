//! One thing wrong with an object, in Kubernetes's words.
//!
//! Source: `k8s.io/apimachinery/pkg/util/validation/field`. The message names what was found and
//! what is allowed; the path stands apart. What is shown of a value is bounded, since values are
//! the user's.

use serde_json::Value;
use std::fmt::Display;

/// Most letters of a value that a message repeats.
const MOST_SHOWN: usize = 200;

/// One thing wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, as `spec.source.folder.path`.
    pub path: String,
    /// Machine-readable kind.
    pub reason: Reason,
    /// What is wrong and what is allowed, as `Invalid value: "x": must be …`.
    pub message: String,
}

/// Kinds of [`FieldError`], in Kubernetes's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A required value is missing.
    Required,
    /// The value is not allowed.
    Invalid,
    /// The value is of another type.
    TypeInvalid,
    /// The field may not be set or changed.
    Forbidden,
    /// The value is none of those supported.
    NotSupported,
    /// The value stands twice where it may stand once.
    Duplicate,
    /// Too many letters.
    TooLong,
    /// Too many items.
    TooMany,
    /// What the value names is not there.
    NotFound,
}

impl Reason {
    /// As `FieldValueInvalid` and its like.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
        }
    }

    /// How the message of such an error begins.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Forbidden => "Forbidden",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
        }
    }
}

/// A value as messages show it: as JSON, cut off where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MOST_SHOWN) {
        None => text,
        Some((end, _)) if value.is_string() => format!("{}…\"", &text[..end]),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

impl FieldError {
    fn new(path: impl Into<String>, reason: Reason, rest: impl Display) -> Self {
        let (path, title) = (path.into(), reason.title());
        let message = format!("{title}: {rest}");
        Self {
            path,
            reason,
            message,
        }
    }

    /// `Invalid value: "x": detail`.
    pub fn invalid(path: impl Into<String>, value: impl Into<Value>, detail: impl Display) -> Self {
        let found = shown(&value.into());
        Self::new(path, Reason::Invalid, format!("{found}: {detail}"))
    }

    /// `Invalid value: "x": must be of type wanted`.
    pub fn type_invalid(
        path: impl Into<String>,
        value: impl Into<Value>,
        wanted: impl Display,
    ) -> Self {
        let found = shown(&value.into());
        let rest = format!("{found}: must be of type {wanted}");
        Self::new(path, Reason::TypeInvalid, rest)
    }

    /// `Required value`, with a detail where it says more than the path.
    pub fn required(path: impl Into<String>, detail: &str) -> Self {
        let mut error = Self::new(path, Reason::Required, detail);
        if detail.is_empty() {
            Reason::Required.title().clone_into(&mut error.message);
        }
        error
    }

    /// `Unsupported value: "x": supported values: "a", "b"`.
    pub fn unsupported<T: Into<Value> + Clone>(
        path: impl Into<String>,
        value: impl Into<Value>,
        supported: &[T],
    ) -> Self {
        let found = shown(&value.into());
        let supported = supported.iter().cloned().map(Into::into);
        let supported: Vec<String> = supported.map(|value| shown(&value)).collect();
        let rest = format!("{found}: supported values: {}", supported.join(", "));
        Self::new(path, Reason::NotSupported, rest)
    }

    /// `Forbidden: detail`.
    pub fn forbidden(path: impl Into<String>, detail: impl Display) -> Self {
        Self::new(path, Reason::Forbidden, detail)
    }

    /// `Duplicate value: "x"`.
    pub fn duplicate(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(path, Reason::Duplicate, shown(&value.into()))
    }

    /// `Too long: may not be more than most letters`.
    pub fn too_long(path: impl Into<String>, most: usize) -> Self {
        let rest = format!("may not be more than {most} characters");
        Self::new(path, Reason::TooLong, rest)
    }

    /// `Too many: found: must have at most most items`.
    pub fn too_many(path: impl Into<String>, found: usize, most: usize) -> Self {
        let rest = format!("{found}: must have at most {most} items");
        Self::new(path, Reason::TooMany, rest)
    }

    /// With the reason and the message's beginning that a rule asks for.
    pub fn because(
        path: impl Into<String>,
        reason: Reason,
        value: impl Into<Value>,
        detail: impl Display,
    ) -> Self {
        match reason {
            Reason::Forbidden | Reason::Required => Self::new(path, reason, detail),
            Reason::Duplicate => Self::duplicate(path, value),
            Reason::NotFound => {
                let found = shown(&value.into());
                Self::new(path, reason, format!("{found}: {detail}"))
            }
            _ => Self {
                reason,
                ..Self::invalid(path, value, detail)
            },
        }
    }
}
