//! Lengths of time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time, written as `90s`, `45m` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub(super) Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        match humantime::parse_duration(&text) {
            Ok(Duration::ZERO) => Err("must be more than 0".to_owned()),
            Ok(span) => Ok(Self(span)),
            Err(_) => Err(format!("{text:?} is not a duration; write it as \"2h\"")),
        }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// A [`Span`], or `0` where there is none: nothing is kept, nothing is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Period(pub(super) Option<Span>);

impl std::str::FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "0" => Ok(Self(None)),
            text => Span::try_from(text.to_owned()).map(|span| Self(Some(span))),
        }
    }
}

impl Period {
    /// The time, where there is one.
    pub fn get(self) -> Option<Duration> {
        self.0.map(Duration::from)
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.0.map_or_else(|| "0".to_owned(), Self::from)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Period;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration such as \"30d\", or 0")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> std::result::Result<Period, E> {
                match number {
                    0 => Ok(Period(None)),
                    _ => Err(E::invalid_value(
                        serde::de::Unexpected::Signed(number),
                        &self,
                    )),
                }
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Period, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
