pub const TEETH: u32 = 12;
