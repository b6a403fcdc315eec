//! What levels say of a setting, field by field, and what holds in the end. A setting declares its
//! fields once with [`fields!`]; linking, explanations and the emitter walk them and name none.

use std::time::Duration;

use mesh_syntax::Span;

use crate::linked::Source;
use crate::value::{duration_text, percent_text};

/// Makes a source of one level from a place.
pub(crate) type Level = fn(Span) -> Source;

/// A value as explanations print it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing, or no limit.
    None,
    /// A number.
    Number(u64),
    /// A time, share or word, as policy writes it.
    Text(String),
    /// Several of them.
    List(Vec<String>),
}

/// A field that holds: its name in outputs, its value, and who set it.
pub type ShownField = (&'static str, Shown, Source);

/// How a value is shown.
pub trait Show {
    /// The value as policy writes it.
    fn show(&self) -> Shown;
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> Shown {
        self.as_ref().map_or(Shown::None, Show::show)
    }
}

impl Show for u32 {
    fn show(&self) -> Shown {
        Shown::Number(u64::from(*self))
    }
}

impl Show for u64 {
    fn show(&self) -> Shown {
        Shown::Number(*self)
    }
}

impl Show for Duration {
    fn show(&self) -> Shown {
        Shown::Text(duration_text(*self))
    }
}

/// A share, of 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u32);

impl Show for Percent {
    fn show(&self) -> Shown {
        Shown::Text(percent_text(self.0))
    }
}

/// Declares a setting: what one level may say of its fields, and what holds. `none` at a level gives
/// a field what holds where nobody says anything.
macro_rules! fields {
    (
        $(#[$declared_doc:meta])* declared $declared:ident;
        $(#[$effective_doc:meta])* effective $effective:ident;
        $($(#[$doc:meta])* $field:ident: $one:ty => $whole:ty = $built_in:expr, $text:literal, $output:literal;)*
    ) => {
        $(#[$declared_doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $declared {
            $($(#[$doc])* pub $field: $crate::model::Field<$one>,)*
        }

        impl $declared {
            /// Takes away whatever lower levels say.
            pub(crate) fn removed(span: mesh_syntax::Span) -> Self {
                let none = |()| Some($crate::model::Spanned::new((), span));
                Self {
                    $($field: none(()).map(|none| none.map(|()| $crate::model::Setting::Removed)),)*
                }
            }

            /// The fields that the level sets, as policy writes them.
            pub(crate) fn sources(&self, found: &mut Vec<(&'static str, mesh_syntax::Span)>) {
                $(if let Some(field) = &self.$field {
                    found.push(($text, field.span));
                })*
            }
        }

        $(#[$effective_doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $effective {
            $($(#[$doc])* pub $field: $crate::linked::Effective<$whole>,)*
        }

        impl $effective {
            /// What holds where no file says anything.
            pub fn built_in() -> Self {
                Self { $($field: $crate::linked::Effective::built_in($built_in),)* }
            }

            /// Lays one level over those below it.
            pub(crate) fn apply(&mut self, layer: &$declared, level: $crate::level::Level) {
                $(if let Some(field) = &layer.$field {
                    self.$field = $crate::linked::Effective {
                        value: match &field.value {
                            $crate::model::Setting::Removed => $built_in,
                            $crate::model::Setting::Value(value) => <$whole>::from(value.clone()),
                        },
                        source: level(field.span),
                    };
                })*
            }

            /// Each field that a file sets.
            pub(crate) fn shown(&self, found: &mut Vec<$crate::level::ShownField>) {
                $(if self.$field.source != $crate::linked::Source::BuiltIn {
                    let value = $crate::level::Show::show(&self.$field.value);
                    found.push(($output, value, self.$field.source));
                })*
            }
        }
    };
}

/// Declares a group of settings, each with a type of [`fields!`] for what a level says and for what
/// holds.
macro_rules! group {
    (
        $(#[$declared_doc:meta])* declared $declared:ident;
        $(#[$effective_doc:meta])* effective $effective:ident;
        $($(#[$doc:meta])* $field:ident: $one:ty => $whole:ty;)*
    ) => {
        $(#[$declared_doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $declared {
            $($(#[$doc])* pub $field: $one,)*
        }

        impl $declared {
            /// The fields that the level sets, as policy writes them.
            pub(crate) fn sources(&self, found: &mut Vec<(&'static str, mesh_syntax::Span)>) {
                $(self.$field.sources(found);)*
            }
        }

        $(#[$effective_doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $effective {
            $($(#[$doc])* pub $field: $whole,)*
        }

        impl $effective {
            /// What holds where no file says anything.
            pub fn built_in() -> Self {
                Self { $($field: <$whole>::built_in(),)* }
            }

            /// Lays one level over those below it.
            pub(crate) fn apply(&mut self, layer: &$declared, level: $crate::level::Level) {
                $(self.$field.apply(&layer.$field, level);)*
            }

            /// Each field that a file sets, by its name in outputs.
            pub fn shown(&self) -> Vec<$crate::level::ShownField> {
                let mut found = Vec::new();
                $(self.$field.shown(&mut found);)*
                found
            }

            /// Puts what holds into the message for proxies.
            pub(crate) fn lower(&self, message: &mut mesh_bundle::slice::Pool) {
                $(self.$field.lower(message);)*
            }
        }
    };
}

pub(crate) use {fields, group};
