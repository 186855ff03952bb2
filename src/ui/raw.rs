//! The person's terminal while a program elsewhere has a terminal of its own: each key goes through.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal that hands each key on, at once and as it is. Dropped, it is what it was.
#[derive(Debug)]
pub struct Raw(Termios);

impl Raw {
    /// Makes standard input raw, which must be a terminal.
    pub fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        // What was typed before is not lost.
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone away needs nothing.
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}

/// Whether standard input is a terminal.
pub fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// Its size in characters, as rows and columns, where it has one.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdin().as_fd()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
