//! Whether KVM works: tried, not looked at.
//!
//! On some nested hosts /dev/kvm opens, vCPUs are made and simple payloads run, and yet a Linux
//! kernel dies in its first second with "KVM internal error. Suberror: 1" on cmpxchg16b, xrstor or
//! int3, because the instruction left hardware virtualization and KVM's emulator does not know it.
//! So those instructions are run in a vCPU.
#![allow(unsafe_code)] // guest memory

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::mm::{MapFlags, ProtFlags};
use serde::{Deserialize, Serialize};

use crate::findings::{Findings, key_of_file};

/// State of KVM on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvmState {
    /// The instructions that Linux needs run.
    Works,
    /// It cannot be used at all; why.
    Missing(String),
    /// It is there, and a Linux kernel would die in it; why.
    Broken(String),
}

/// Time for the payload, which takes microseconds where KVM works.
const VCPU_TIMEOUT: Duration = Duration::from_secs(3);

/// Guest memory in bytes, and where in it things lie.
const MEMORY: usize = 0x10000;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PAGE_DIRECTORY: u64 = 0x3000;
const IDT: u64 = 0x4000;
const GDT: u64 = 0x5000;
const OPERAND: u64 = 0x6000;
const XSAVE_AREA: u64 = 0x7000;
const CODE: u64 = 0x8000;
const HANDLER: u64 = 0x9000;
const STACK: u64 = 0xf000;

/// 64-bit code: rdi points to a zeroed operand, rsi to an XSAVE area, r8 is 1 and all else 0.
const PAYLOAD: [u8; 44] = [
    0xf0, 0x48, 0x0f, 0xc7, 0x0f, //       lock cmpxchg16b (%rdi)
    0x75, 0x1c, //                         jne fail
    0xb8, 0x03, 0x00, 0x00, 0x00, //       mov $3, %eax (x87 and SSE)
    0x31, 0xd2, //                         xor %edx, %edx
    0x31, 0xc9, //                         xor %ecx, %ecx
    0x0f, 0x01, 0xd1, //                   xsetbv
    0x0f, 0xae, 0x26, //                   xsave (%rsi)
    0x0f, 0xae, 0x2e, //                   xrstor (%rsi)
    0xcc, //                               int3
    0x4c, 0x39, 0xc5, //                   cmp %r8, %rbp
    0x75, 0x04, //                         jne fail
    0xb0, b'K', //                         mov $'K', %al
    0xe6, 0x80, //                         out %al, $0x80
    0xb0, b'F', //                   fail: mov $'F', %al
    0xe6, 0x80, //                         out %al, $0x80
    0xf4, 0xf4, 0xf4, 0xf4, 0xf4, //       hlt
];

/// The handler of int3: `inc %rbp; iretq`.
const HANDLER_CODE: [u8; 5] = [0x48, 0xff, 0xc5, 0x48, 0xcf];

/// Tries KVM. Takes some milliseconds, at most three seconds where a vCPU hangs; what a vCPU has
/// shown is remembered.
#[must_use]
pub fn probe_kvm(findings: &Findings) -> KvmState {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => return KvmState::Missing(format!("/dev/kvm cannot be opened: {error}")),
    };
    let Some(key) = key_of_file("kvm", Path::new("/dev/kvm")) else {
        return probe(kvm).unwrap_or_else(|state| state);
    };
    findings.find_once(&key, || probe(kvm)).unwrap_or_else(|state| state)
}

/// Runs the payload; an error is what the next trial may not meet.
fn probe(kvm: Kvm) -> Result<KvmState, KvmState> {
    let (sender, receiver) = mpsc::channel();
    // A thread, because a vCPU that hangs cannot be told to stop; it ends with the process then.
    std::thread::spawn(move || sender.send(run(&kvm)));
    match receiver.recv_timeout(VCPU_TIMEOUT) {
        Ok(Ok(state)) => Ok(state),
        Ok(Err(error)) => Err(KvmState::Broken(format!("a vCPU cannot be made: {error}"))),
        Err(_) => {
            Err(KvmState::Broken(format!("a vCPU did not come back within {} s", VCPU_TIMEOUT.as_secs())))
        }
    }
}

fn run(kvm: &Kvm) -> Result<KvmState, kvm_ioctls::Error> {
    // Before the VM, so that it is dropped after it.
    let memory = Memory::new()?;
    let vm = kvm.create_vm()?;
    lay_out(&memory);
    memory.give_to(&vm)?;
    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?)?;
    set_registers(&vcpu)?;
    Ok(match vcpu.run() {
        Ok(VcpuExit::IoOut(0x80, [b'K'])) => KvmState::Works,
        Ok(VcpuExit::IoOut(0x80, _)) => KvmState::Broken("an instruction gave a wrong result".to_owned()),
        Ok(VcpuExit::InternalError) => internal_error(&mut vcpu),
        Ok(other) => KvmState::Broken(format!("the vCPU stopped with {other:?}")),
        Err(error) => KvmState::Broken(format!("the vCPU cannot run: {error}")),
    })
}

/// Names the instruction at which KVM gave up.
fn internal_error(vcpu: &mut VcpuFd) -> KvmState {
    let offset = vcpu.get_regs().map(|registers| registers.rip.saturating_sub(CODE)).unwrap_or(u64::MAX);
    let instruction = match offset {
        0..=4 => "cmpxchg16b",
        16..=18 => "xsetbv",
        19..=21 => "xsave",
        22..=24 => "xrstor",
        25 => "int3",
        _ => "an instruction",
    };
    KvmState::Broken(format!("KVM internal error on {instruction}, which Linux needs"))
}

/// Long mode with everything mapped as it is, as a kernel has it after its first steps.
fn set_registers(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut special = vcpu.get_sregs()?;
    special.cr3 = PML4;
    special.cr4 = 0x20 | 0x200 | 0x400 | 0x4_0000; // PAE, OSFXSR, OSXMMEXCPT, OSXSAVE
    special.cr0 = 0x8000_0033; // PG, NE, ET, MP, PE
    special.efer = 0x500; // LME, LMA
    special.gdt.base = GDT;
    special.gdt.limit = 23;
    special.idt.base = IDT;
    special.idt.limit = 0xfff;
    let code = kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: 8,
        type_: 11,
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..kvm_segment::default()
    };
    let data = kvm_segment { selector: 16, type_: 3, l: 0, db: 1, ..code };
    special.cs = code;
    (special.ds, special.es, special.fs, special.gs, special.ss) = (data, data, data, data, data);
    vcpu.set_sregs(&special)?;
    let mut registers = vcpu.get_regs()?;
    registers.rip = CODE;
    registers.rsp = STACK;
    registers.rflags = 2;
    (registers.rax, registers.rdx, registers.rbp) = (0, 0, 0);
    (registers.rdi, registers.rsi, registers.r8) = (OPERAND, XSAVE_AREA, 1);
    vcpu.set_regs(&registers)
}

/// Page tables, descriptors and code (Intel SDM volume 3, chapters 3 to 6).
fn lay_out(memory: &Memory) {
    memory.put(PML4, &(PDPT | 3).to_le_bytes());
    memory.put(PDPT, &(PAGE_DIRECTORY | 3).to_le_bytes());
    memory.put(PAGE_DIRECTORY, &0x83_u64.to_le_bytes()); // the first 2 MiB as they are
    memory.put(GDT + 8, &0x00af_9b00_0000_ffff_u64.to_le_bytes()); // 64-bit code
    memory.put(GDT + 16, &0x00cf_9300_0000_ffff_u64.to_le_bytes()); // data
    // Vector 3: an interrupt gate to HANDLER in segment 8.
    memory.put(IDT + 3 * 16, &(HANDLER | 8 << 16 | 0x8e00 << 32).to_le_bytes());
    memory.put(CODE, &PAYLOAD);
    memory.put(HANDLER, &HANDLER_CODE);
}

/// The guest's memory.
struct Memory {
    start: *mut u8,
}

impl Memory {
    fn new() -> Result<Memory, kvm_ioctls::Error> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping at an address of the system's choice touches no memory of
        // ours.
        let start = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), MEMORY, protection, MapFlags::PRIVATE)
        };
        let start = start.map_err(|error| kvm_ioctls::Error::new(error.raw_os_error()))?;
        Ok(Memory { start: start.cast() })
    }

    fn put(&self, address: u64, bytes: &[u8]) {
        let offset = usize::try_from(address).unwrap_or(usize::MAX);
        assert!(offset.saturating_add(bytes.len()) <= MEMORY, "all that is laid out lies in guest memory");
        // SAFETY: the range was just checked to lie in the mapping, which lives as long as `self`,
        // and no reference to it is ever made.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(offset), bytes.len()) };
    }

    fn give_to(&self, vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY as u64,
            userspace_addr: self.start as u64,
        };
        // SAFETY: the mapping is `MEMORY` bytes long, and outlives the VM: `run` makes it first, so
        // that it is dropped last.
        unsafe { vm.set_user_memory_region(region) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nobody uses it any more.
        let _ = unsafe { rustix::mm::munmap(self.start.cast(), MEMORY) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_comes_to_a_verdict_and_the_same_one_twice() {
        let scratch = tempfile::tempdir().unwrap();
        let findings = Findings::in_directory(scratch.path());
        assert_eq!(probe_kvm(&Findings::none()), probe_kvm(&findings));
        assert_eq!(probe_kvm(&Findings::none()), probe_kvm(&findings));
        eprintln!("KVM here: {:?}", probe_kvm(&findings));
    }
}
