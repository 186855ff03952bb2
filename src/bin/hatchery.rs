//! The command on the server.
fn main() {}
