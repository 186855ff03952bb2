//! The one program that goes into a drone, under the names of what it stands in for.
fn main() {}
