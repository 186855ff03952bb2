//! A table for a person: as wide as its columns are, or as the terminal is.

use super::clean;

/// What stands between two columns.
const GAP: &str = "  ";

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// What stands above it.
    pub head: &'static str,
    /// When it is left out where there is no room for all: the highest first, and nought never.
    pub spare: u8,
    /// Whether it is longer than the terminal rather than cut off.
    pub is_whole: bool,
}

impl Column {
    /// One that is cut off where it is the last and does not fit.
    pub const fn new(head: &'static str, spare: u8) -> Self {
        Self {
            head,
            spare,
            is_whole: false,
        }
    }

    /// One that is to be copied.
    pub const fn whole(head: &'static str) -> Self {
        Self {
            is_whole: true,
            ..Self::new(head, 0)
        }
    }
}

/// What a cell says beside its words, where there is colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// It rests.
    Quiet,
    /// Something is to be done.
    Bad,
}

/// A cell. Its words are one line, even where they are a stranger's.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// With a tone.
    pub fn toned(text: &str, tone: Tone) -> Self {
        let text = clean::line(text);
        Self { text, tone }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    /// The cell in this width, with colour or without; the last one of a row is not filled up.
    fn shown(&self, width: usize, is_last: bool, colour: bool) -> String {
        let mut text = self.text.clone();
        if self.width() > width {
            text = text.chars().take(width.saturating_sub(1)).collect();
            text.push('…');
        }
        let fill = if is_last {
            0
        } else {
            width.saturating_sub(text.chars().count())
        };
        let sequence = match self.tone {
            _ if !colour || text.is_empty() => None,
            Tone::Plain => None,
            Tone::Good => Some("32"),
            Tone::Quiet => Some("2"),
            Tone::Bad => Some("33"),
        };
        if let Some(sequence) = sequence {
            text = format!("\u{1b}[{sequence}m{text}\u{1b}[0m");
        }
        text.extend(std::iter::repeat_n(' ', fill));
        text
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(&text, Tone::Plain)
    }
}

/// Rows of as many cells as there are columns.
#[derive(Debug)]
pub struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// With these rows below the columns' heads.
    pub const fn new(columns: [Column; N], rows: Vec<[Cell; N]>) -> Self {
        Self { columns, rows }
    }

    /// Its lines, no longer than this where that can be.
    pub(crate) fn lines(&self, most: Option<usize>, colour: bool) -> Vec<String> {
        let width = |at: usize| {
            let rows = self.rows.iter().map(|row| row[at].width());
            rows.chain([self.columns[at].head.len()]).max().unwrap_or(0)
        };
        let mut widths: Vec<(usize, usize)> = (0..N).map(|at| (at, width(at))).collect();
        if let Some(most) = most {
            let all = |widths: &[(usize, usize)]| {
                let gaps = GAP.len() * widths.len().saturating_sub(1);
                widths.iter().map(|(_, width)| width).sum::<usize>() + gaps
            };
            while all(&widths) > most
                && let Some((spare, place)) = widths
                    .iter()
                    .enumerate()
                    .map(|(place, (at, _))| (self.columns[*at].spare, place))
                    .max()
                && spare > 0
            {
                widths.remove(place);
            }
            // What is still too long is cut at its end.
            let over = all(&widths).saturating_sub(most);
            if let Some((at, width)) = widths.last_mut()
                && !self.columns[*at].is_whole
            {
                *width = width.saturating_sub(over).max(1);
            }
        }
        let head: [Cell; N] =
            std::array::from_fn(|at| Cell::toned(self.columns[at].head, Tone::Plain));
        std::iter::once(&head)
            .chain(&self.rows)
            .map(|row| {
                let cells = widths.iter().enumerate().map(|(place, &(at, width))| {
                    row[at].shown(width, place + 1 == widths.len(), colour)
                });
                let line = cells.collect::<Vec<_>>().join(GAP);
                line.trim_end().to_owned()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<4> {
        let row = |name: &str, state, tone, how: &str, way: &str| {
            [
                Cell::from(name.to_owned()),
                Cell::toned(state, tone),
                Cell::from(how.to_owned()),
                Cell::from(way.to_owned()),
            ]
        };
        Table::new(
            [
                Column::new("NAME", 0),
                Column::new("STATE", 0),
                Column::new("HOW", 1),
                Column::new("WAY", 2),
            ],
            vec![
                row(
                    "acme-site",
                    "running",
                    Tone::Good,
                    "Up 3 hours\nx",
                    "ssh there",
                ),
                row("a", "bare", Tone::Bad, "", ""),
            ],
        )
    }

    #[test]
    fn columns_are_left_out_until_it_fits() {
        let lines = |most| table().lines(most, false);
        let all = [
            "NAME       STATE    HOW           WAY",
            "acme-site  running  Up 3 hours x  ssh there",
            "a          bare",
        ];
        for most in [None, Some(200), Some(43)] {
            assert_eq!(lines(most), all, "{most:?}");
        }
        assert_eq!(lines(Some(42))[1], "acme-site  running  Up 3 hours x");
        assert_eq!(lines(Some(31))[1], "acme-site  running");
        assert_eq!(lines(Some(15))[1], "acme-site  run…");
        assert_eq!(lines(Some(3))[1], "acme-site  …");
    }

    #[test]
    fn what_is_to_be_copied_is_whole() {
        let columns = [Column::new("PORT", 0), Column::whole("WAY")];
        let row = ["80", "http://acme-site.example"].map(|text| Cell::from(text.to_owned()));
        let lines = Table::new(columns, vec![row]).lines(Some(10), false);
        assert_eq!(lines, ["PORT  WAY", "80    http://acme-site.example"]);
    }

    #[test]
    fn colour_takes_no_room() {
        let lines = table().lines(Some(31), true);
        assert_eq!(lines[0], "NAME       STATE");
        assert_eq!(lines[1], "acme-site  \u{1b}[32mrunning\u{1b}[0m");
        assert_eq!(lines[2], "a          \u{1b}[33mbare\u{1b}[0m");
        let wide = table().lines(None, true);
        assert!(
            wide[2].starts_with("a          \u{1b}[33mbare\u{1b}[0m"),
            "{wide:?}"
        );
        assert!(
            wide[1].contains("\u{1b}[32mrunning\u{1b}[0m  Up"),
            "{wide:?}"
        );
    }
}
