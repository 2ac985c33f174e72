//! Runs a seccomp filter as the kernel does, for tests.
//!
//! Only what seccomp(2) lets through and filters use: word loads from `struct seccomp_data`, AND,
//! jumps, returns. Anything else, a jump out of the program or an endless one is a broken filter.

use seccompiler::sock_filter;

/// What a filter sees of a call: `struct seccomp_data`, less the instruction pointer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Call {
    /// `nr`
    pub number: u32,
    /// `arch`
    pub architecture: u32,
    /// `args`
    pub arguments: [u64; 6],
}

/// The verdict, and how many instructions it took.
pub fn run(program: &[sock_filter], call: &Call) -> Result<(u32, usize), String> {
    let mut accumulator = 0;
    let mut at = 0;
    for steps in 1..=program.len() {
        let instruction = program
            .get(at)
            .ok_or_else(|| format!("instruction {at} is behind the end"))?;
        let k = instruction.k;
        at += 1;
        let jump = |holds: bool| {
            usize::from(if holds {
                instruction.jt
            } else {
                instruction.jf
            })
        };
        match instruction.code {
            0x20 => accumulator = load(call, k)?,
            0x54 => accumulator &= k,
            0x05 => at += usize::try_from(k).map_err(|error| error.to_string())?,
            0x15 => at += jump(accumulator == k),
            0x25 => at += jump(accumulator > k),
            0x35 => at += jump(accumulator >= k),
            0x45 => at += jump(accumulator & k != 0),
            0x06 => return Ok((k, steps)),
            code => return Err(format!("instruction {}: code {code:#x}", at - 1)),
        }
    }
    Err("no return".to_owned())
}

fn load(call: &Call, offset: u32) -> Result<u32, String> {
    let half = |value: u64, shift: u32| u32::try_from(value >> shift & 0xffff_ffff);
    match offset {
        0 => Ok(call.number),
        4 => Ok(call.architecture),
        16..64 if offset.is_multiple_of(4) => {
            let index = usize::try_from((offset - 16) / 8).map_err(|error| error.to_string())?;
            let shift = if offset.is_multiple_of(8) { 0 } else { 32 };
            half(call.arguments[index], shift).map_err(|error| error.to_string())
        }
        _ => Err(format!("load from offset {offset}")),
    }
}
