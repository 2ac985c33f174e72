//! Which of an index's images runs on this machine.
//!
//! The names are Go's, as image-spec image-index.md has them. An image for another processor is
//! never taken, not even as the only one: it would be found out as ENOEXEC much later.

use super::wire::Platform;

/// This machine's architecture, as Go names it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// How well an image suits this machine: `None` does not run, and the highest is the best.
pub(super) fn fitness(platform: &Platform) -> Option<u32> {
    if platform.os != "linux" {
        return None;
    }
    fitness_on(architecture(), level(), platform)
}

/// The same for a machine of an architecture and its level (see `level`).
fn fitness_on(architecture: &str, level: u32, platform: &Platform) -> Option<u32> {
    if platform.architecture != architecture {
        return None;
    }
    let variant = platform.variant.as_deref().unwrap_or_default();
    let wanted = match (architecture, variant) {
        ("amd64", "") => 1,
        ("arm", "") => 7,
        ("arm64", "") => 8,
        ("amd64" | "arm" | "arm64", variant) => {
            // arm64 has v8.1 and the like; the number before the dot is the level.
            let number = variant.strip_prefix('v')?;
            number.split('.').next()?.parse().ok()?
        }
        (_, "") => 0,
        _ => return None,
    };
    (wanted <= level).then_some(wanted)
}

/// The variant that this processor reaches: the micro-architecture level on amd64, the
/// architecture's version on arm.
fn level() -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        let v2 = is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt");
        let v3 = v2
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("movbe");
        let v4 = v3
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        1 + u32::from(v2) + u32::from(v3) + u32::from(v4)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        match std::env::consts::ARCH {
            "arm" => 7,
            _ => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform {
            os: parts.next().unwrap(),
            architecture: parts.next().unwrap(),
            variant: parts.next(),
        }
    }

    #[test]
    fn best_variant_that_the_processor_reaches_wins() {
        let on = |arch, level, text| fitness_on(arch, level, &platform(text));
        assert_eq!(on("amd64", 3, "linux/amd64"), Some(1));
        assert_eq!(on("amd64", 3, "linux/amd64/v3"), Some(3));
        assert_eq!(on("amd64", 3, "linux/amd64/v4"), None);
        assert_eq!(on("arm", 7, "linux/arm/v6"), Some(6));
        assert_eq!(on("arm64", 8, "linux/arm64/v8"), Some(8));
        assert_eq!(on("arm64", 8, "linux/arm64/v9"), None);
        assert_eq!(on("arm64", 8, "linux/arm/v7"), None);
        assert_eq!(on("riscv64", 8, "linux/riscv64"), Some(0));
        assert_eq!(on("riscv64", 8, "linux/riscv64/odd"), None);
    }

    #[test]
    fn other_systems_do_not_fit() {
        let here = architecture();
        assert!(fitness(&platform(&format!("linux/{here}"))).is_some());
        assert!(fitness(&platform(&format!("windows/{here}"))).is_none());
        assert!(fitness(&platform("unknown/unknown")).is_none());
    }
}
