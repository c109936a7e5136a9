//! The walls around a compiling child process.
//!
//! Called by the child itself before it reads the first byte from a stranger, and never undone: limits on memory, CPU and
//! files, no descriptors but its three pipes, a lower claim on the processor, death with its parent, and on Linux a list
//! of the system calls that compiling takes. Opening a file is answered with an error, since libraries try it in good
//! faith; everything else that is not on the list (sockets, programs, processes, executable memory) ends the process.

use crate::config::{Confinement, SandboxConfig};
use crate::turns::take_long_turns;
use rustix::process::{Resource, Rlimit, setrlimit};

/// How urgent compiling is (`nice`): guests come first, a third of the weight is left. With less, a busy machine would make
/// an honest large component miss its wall limit.
const NICENESS: i32 = 5;

/// What a child may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChildLimits {
    /// Address space in bytes.
    pub(crate) memory: u64,
    /// CPU time in seconds over all threads.
    pub(crate) cpu_seconds: u64,
}

impl ChildLimits {
    /// Half the wall's time may be computed, by all threads together: the rest is for a machine that is busy with other
    /// things, which must not make a good component a bad one.
    pub(crate) fn of(config: &SandboxConfig) -> Self {
        Self { memory: config.compile_memory_bytes, cpu_seconds: (config.compile_time.as_secs() / 2).max(1) }
    }
}

/// Builds the walls around this process. It must have no other thread yet.
///
/// # Errors
/// What could not be set: then nothing of a stranger may be read.
pub(crate) fn confine(limits: ChildLimits, confinement: Confinement) -> Result<(), String> {
    // While the last file can still be opened: if memory runs out, this process goes and not the server.
    #[cfg(target_os = "linux")]
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    take_long_turns(NICENESS);
    for (resource, current, maximum) in [
        (Resource::As, limits.memory, limits.memory),
        // The first ends it with a signal that says why; the second is for one that ignores it.
        (Resource::Cpu, limits.cpu_seconds, limits.cpu_seconds + 1),
        (Resource::Fsize, 0, 0),
        (Resource::Core, 0, 0),
        // The three that are open; none can be added.
        (Resource::Nofile, 3, 3),
    ] {
        setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
            .map_err(|e| format!("the limit on {resource:?} cannot be set: {e}"))?;
    }
    system::confine(confinement)
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::Confinement;

    pub(super) fn confine(confinement: Confinement) -> Result<(), String> {
        match confinement {
            Confinement::WhereKnown | Confinement::LimitsOnly => Ok(()),
            Confinement::Required => Err("this system has no filter for system calls".to_owned()),
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::Confinement;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition as Condition,
        SeccompFilter, SeccompRule, TargetArch, apply_filter,
    };
    use std::collections::BTreeMap;

    pub(super) fn confine(confinement: Confinement) -> Result<(), String> {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(|e| format!("it cannot be bound to its parent: {e}"))?;
        close_all_but_the_pipes().map_err(|e| format!("inherited files cannot be closed: {e}"))?;
        if confinement == Confinement::LimitsOnly {
            return Ok(());
        }
        filter().map_err(|e| format!("this kernel takes no filter for system calls (seccomp): {e}"))
    }

    #[expect(unsafe_code, reason = "no safe wrapper knows this call")]
    fn close_all_but_the_pipes() -> std::io::Result<()> {
        // SAFETY: called at the start of a process that owns nothing but its standard streams: no value of this program
        // has one of the descriptors that are closed. What was inherited by mistake belongs to nobody here.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
        match closed {
            0 => Ok(()),
            _ => match std::io::Error::last_os_error() {
                // Before Linux 5.9: everything this program opens is closed by `exec` anyway.
                e if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
                e => Err(e),
            },
        }
    }

    /// Two filters, of which the stricter answer counts: one that refuses politely, one that lets only what is listed
    /// pass.
    fn filter() -> Result<(), Box<dyn std::error::Error>> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let build = |rules, otherwise, matching| -> Result<BpfProgram, Box<dyn std::error::Error>> {
            Ok(SeccompFilter::new(rules, otherwise, matching, arch)?.try_into()?)
        };
        // `clone3` has its flags in memory, where a filter cannot see them; told that it is unknown, libraries use
        // `clone`.
        let unknown: Rules = [(libc::SYS_clone3, vec![])].into();
        let refused = POLITELY_REFUSED.iter().map(|call| (*call, vec![])).collect();
        let polite = [(unknown, libc::ENOSYS), (refused, libc::EACCES)];
        let mut programs = Vec::new();
        for (rules, error) in polite {
            programs.push(build(rules, SeccompAction::Allow, SeccompAction::Errno(error.unsigned_abs()))?);
        }
        programs.push(build(allowed()?, SeccompAction::KillProcess, SeccompAction::Allow)?);
        programs.iter().try_for_each(|program| apply_filter(program).map_err(Into::into))
    }

    type Rules = BTreeMap<i64, Vec<SeccompRule>>;

    /// Asked for by libraries that can do without: the number of processors, the kernel's memory policy.
    const POLITELY_REFUSED: &[i64] = &[
        libc::SYS_openat,
        libc::SYS_readlinkat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_faccessat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_readlink,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_stat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_access,
    ];

    /// Calls that compiling takes, whatever their arguments: memory, threads, time, the end.
    const ALLOWED: &[i64] = &[
        libc::SYS_brk,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_fstat,
        libc::SYS_futex,
        libc::SYS_getcpu,
        libc::SYS_getpid,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_madvise,
        libc::SYS_membarrier,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_nanosleep,
        libc::SYS_restart_syscall,
        libc::SYS_rseq,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_yield,
        libc::SYS_set_robust_list,
        libc::SYS_sigaltstack,
        libc::SYS_sysinfo,
    ];

    /// The names of memory that the C library gives; some of them lack the constant.
    const PR_SET_VMA: libc::c_int = 0x5356_4d41;
    /// The flags with which the C libraries start a thread of this process; other systems' bits set aside.
    const THREAD: u64 = (libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID) as u64;
    /// Set by musl, ignored by the kernel.
    const DETACHED: u64 = libc::CLONE_DETACHED as u64;

    fn allowed() -> Result<Rules, seccompiler::BackendError> {
        let argument = |number, length, is, value| Condition::new(number, length, is, value);
        let one = |condition| SeccompRule::new(vec![condition]);
        let not_executable = |number| one(argument(number, Length::Dword, Is::MaskedEq(libc::PROT_EXEC as u64), 0)?);
        // What is refused politely must not end the process here.
        let polite = POLITELY_REFUSED.iter().chain([&libc::SYS_clone3]);
        let mut rules: Rules = ALLOWED.iter().chain(polite).map(|call| (*call, vec![])).collect();
        // Input from the one pipe, output to the others.
        rules.insert(libc::SYS_read, vec![one(argument(0, Length::Dword, Is::Eq, 0)?)?]);
        for call in [libc::SYS_write, libc::SYS_writev] {
            let out = [1, 2].map(|fd| one(argument(0, Length::Dword, Is::Eq, fd)?));
            rules.insert(call, out.into_iter().collect::<Result<_, _>>()?);
        }
        // Memory without the right to run it: the third argument of both.
        rules.insert(libc::SYS_mmap, vec![not_executable(2)?]);
        rules.insert(libc::SYS_mprotect, vec![not_executable(2)?]);
        // Threads, and no processes.
        rules.insert(libc::SYS_clone, vec![one(argument(0, Length::Qword, Is::MaskedEq(!DETACHED), THREAD)?)?]);
        // The names of threads and of memory.
        let names = [libc::PR_SET_NAME, PR_SET_VMA]
            .map(|what| one(argument(0, Length::Dword, Is::Eq, u64::from(what.unsigned_abs()))?));
        rules.insert(libc::SYS_prctl, names.into_iter().collect::<Result<_, _>>()?);
        // Limits are read, not set.
        rules.insert(libc::SYS_prlimit64, vec![one(argument(2, Length::Qword, Is::Eq, 0)?)?]);
        // `abort` sends a signal to itself.
        let itself = u64::from(std::process::id());
        rules.insert(libc::SYS_tgkill, vec![one(argument(0, Length::Dword, Is::Eq, itself)?)?]);
        Ok(rules)
    }
}
