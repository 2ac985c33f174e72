//! System call names and their numbers, per machine and architecture.
//!
//! The arrays that generate.sh writes are read by the compiler only: here they become one string of
//! names and one array of small rows, so that a position-independent program carries no pointer
//! per name and relocates nothing at its start. Look-up is a binary search by name, and one search
//! answers for every architecture of the machine.

mod aarch64;
mod x86_64;

/// Marks a call that an architecture lacks.
const NO: u16 = 0xffff;
/// Numbers from here up stand for 32-bit Arm's private calls.
const ARM_PRIVATE_STORED: u16 = 0xf000;
/// The first private call of 32-bit Arm (`__ARM_NR_BASE`).
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;
/// How many architectures one machine has at most.
const COLUMNS: usize = 3;

type Source = (&'static str, [u16; COLUMNS]);

#[derive(Clone, Copy)]
struct Row {
    start: u16,
    length: u16,
    numbers: [u16; COLUMNS],
}

/// The system calls of one machine.
pub(super) struct Table {
    names: &'static [u8],
    rows: &'static [Row],
}

/// The numbers that one name has on a machine's architectures.
#[derive(Clone, Copy)]
pub(super) struct Numbers([u16; COLUMNS]);

impl Numbers {
    /// The number on the architecture of this column, if it has the call.
    pub(super) fn get(self, column: usize) -> Option<u32> {
        match self.0.get(column).copied()? {
            NO => None,
            stored if stored >= ARM_PRIVATE_STORED => {
                Some(ARM_PRIVATE + u32::from(stored - ARM_PRIVATE_STORED))
            }
            number => Some(u32::from(number)),
        }
    }
}

impl Table {
    /// The numbers of a name, if any architecture of the machine has it.
    pub(super) fn find(&self, name: &str) -> Option<Numbers> {
        self.rows
            .binary_search_by(|row| self.name(row).cmp(name.as_bytes()))
            .ok()
            .map(|at| Numbers(self.rows[at].numbers))
    }

    /// Every name, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.rows
            .iter()
            .filter_map(|row| str::from_utf8(self.name(row)).ok())
    }

    fn name(&self, row: &Row) -> &'static [u8] {
        let start = usize::from(row.start);
        &self.names[start..start + usize::from(row.length)]
    }
}

const fn names_length(source: &[Source]) -> usize {
    let (mut at, mut length) = (0, 0);
    while at < source.len() {
        length += source[at].0.len();
        at += 1;
    }
    length
}

const fn names<const LENGTH: usize>(source: &[Source]) -> [u8; LENGTH] {
    let mut out = [0; LENGTH];
    let (mut at, mut end) = (0, 0);
    while at < source.len() {
        let name = source[at].0.as_bytes();
        let mut byte = 0;
        while byte < name.len() {
            out[end] = name[byte];
            end += 1;
            byte += 1;
        }
        at += 1;
    }
    out
}

// The compiler runs this, and would refuse an index out of bounds; the test compares every row.
#[allow(clippy::cast_possible_truncation)]
const fn rows<const LENGTH: usize>(source: &[Source]) -> [Row; LENGTH] {
    let mut out = [Row {
        start: 0,
        length: 0,
        numbers: [NO; COLUMNS],
    }; LENGTH];
    let (mut at, mut start) = (0, 0);
    while at < source.len() {
        let length = source[at].0.len();
        out[at] = Row {
            start: start as u16,
            length: length as u16,
            numbers: source[at].1,
        };
        start += length;
        at += 1;
    }
    out
}

macro_rules! table {
    ($source:path) => {{
        static NAMES: [u8; names_length($source)] = names($source);
        static ROWS: [Row; $source.len()] = rows($source);
        Table {
            names: &NAMES,
            rows: &ROWS,
        }
    }};
}

/// Columns: x86_64, x32 (without its bit), x86.
pub(super) static X86_64: Table = table!(x86_64::SOURCE);
/// Columns: aarch64, arm.
pub(super) static AARCH64: Table = table!(aarch64::SOURCE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_source_is_found_by_its_name() {
        for (table, source) in [(&X86_64, x86_64::SOURCE), (&AARCH64, aarch64::SOURCE)] {
            assert_eq!(table.names().count(), source.len());
            for (name, numbers) in source {
                assert_eq!(table.find(name).unwrap().0, *numbers, "{name}");
            }
        }
    }

    #[test]
    fn names_are_sorted_and_numbers_are_unique() {
        for source in [x86_64::SOURCE, aarch64::SOURCE] {
            assert!(source.windows(2).all(|pair| pair[0].0 < pair[1].0));
            for column in 0..COLUMNS {
                // Arm's own name for the generic sync_file_range2.
                let alias = |name: &str| name == "arm_sync_file_range";
                let names = source.iter().filter(|(name, _)| !alias(name));
                let mut seen: Vec<u16> = names.map(|(_, numbers)| numbers[column]).collect();
                seen.retain(|number| *number != NO);
                let count = seen.len();
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen.len(), count, "column {column}");
            }
        }
    }

    #[test]
    fn private_calls_of_arm_have_their_real_numbers() {
        assert_eq!(
            AARCH64.find("cacheflush").unwrap().get(1),
            Some(0x000f_0002)
        );
        assert_eq!(AARCH64.find("cacheflush").unwrap().get(0), None);
    }

    #[test]
    fn numbers_of_x86_differ_by_architecture() {
        let execve = X86_64.find("execve").unwrap();
        assert_eq!(
            (execve.get(0), execve.get(1), execve.get(2)),
            (Some(59), Some(520), Some(11))
        );
        assert!(X86_64.find("no_such_call").is_none());
    }
}
