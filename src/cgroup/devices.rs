//! Stand-in until merged.
use oci_spec::runtime::LinuxDeviceCgroup;
/// x
pub fn program(_rules: &[LinuxDeviceCgroup]) -> anyhow::Result<Vec<u64>> {
    // r0 = 1; exit
    Ok(vec![0x0000_0001_0000_00b7, 0x95])
}
/// x
pub fn default_rules() -> Vec<LinuxDeviceCgroup> {
    Vec::new()
}
