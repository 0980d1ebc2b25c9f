# Prints numbered lines to COM1, as its command line orders (see Options in src/options.rs).
#
# It is entered as the PVH boot protocol says (xen/include/public/arch-x86/hvm/start_info.h): 32-bit protected mode, flat
# segments, no paging, ebx -> hvm_start_info. Registers: esi the cursor in the command line; edi the number of the line.

.set COM1,         0x3f8
.set LINE_STATUS,  0x3fd
.set LSR_RECEIVED, 0x01
.set LSR_EMPTY,    0x20
.set CMDLINE,      24          # cmdline_paddr in hvm_start_info
.set DIGITS,       10
.set EOT,          4           # ends the echo, as Ctrl-D does on a terminal, and with `typed` the lines

# XEN_ELFNOTE_PHYS32_ENTRY (18): the entry's physical address.
.section .note.pvh, "a", @note
    .long 4, 8, 18
    .asciz "Xen"
    .quad start

.text
.code32
.globl start
start:
    mov $stack_top, %esp
    cld
    movl CMDLINE(%ebx), %esi
    test %esi, %esi
    jz lines

# Each word is KEY=VALUE; the first letter of a key tells it from the others.
next_word:
    lodsb
    cmp $' ', %al
    je next_word
    test %al, %al
    jz lines
    mov %al, %dl
skip_key:
    lodsb
    test %al, %al
    jz lines
    cmp $'=', %al
    jne skip_key
    movzbl (%esi), %eax
    cmp $'f', %dl
    jne number
    mov %al, finish_how
    jmp skip_value
number:
    xor %ecx, %ecx
digit:
    movzbl (%esi), %eax
    sub $'0', %eax
    cmp $9, %eax
    ja number_read
    imul $10, %ecx
    add %eax, %ecx
    inc %esi
    jmp digit
number_read:
    cmp $'c', %dl
    je set_count
    cmp $'l', %dl
    je set_length
    cmp $'p', %dl
    je set_pause
    cmp $'w', %dl
    je set_wide
    cmp $'e', %dl
    je set_echo
    cmp $'t', %dl
    jne skip_value
    mov %ecx, typed
    jmp skip_value
set_echo:
    mov %ecx, echo
    jmp skip_value
set_count:
    mov %ecx, count
    jmp skip_value
set_length:
    mov %ecx, length
    jmp skip_value
set_pause:
    mov %ecx, pause_turns
    jmp skip_value
set_wide:
    mov %ecx, wide
skip_value:
    lodsb
    test %al, %al
    jz lines
    cmp $' ', %al
    jne skip_value
    jmp next_word

# Number, space, filler up to the length, newline.
lines:
    xor %edi, %edi
line:
    mov $number_text, %esi
    mov $DIGITS, %ecx
print_number:
    lodsb
    call print
    dec %ecx
    jnz print_number
    mov $' ', %al
    call print
    # The filler at place i of line n is letter (n + i) mod 26, or with `wide` byte 0x80 + (n + i) mod 64.
    mov $(DIGITS + 1), %ecx
filler:
    cmp length, %ecx
    jae end_of_line
    lea (%edi, %ecx), %eax
    cmpl $0, wide
    jne wide_filler
    xor %edx, %edx
    mov $26, %ebx
    div %ebx
    lea 'a'(%edx), %eax
    jmp print_filler
wide_filler:
    and $63, %eax
    or $0x80, %eax
print_filler:
    call print
    inc %ecx
    jmp filler
end_of_line:
    mov $'\n', %al
    call print
    inc %edi
    cmp count, %edi
    je after_lines              # never, when count is 0
    cmpl $0, typed
    je count_on
    mov $LINE_STATUS, %dx
    in %dx, %al
    test $LSR_RECEIVED, %al
    jz count_on
    mov $COM1, %dx
    in %dx, %al
    cmp $EOT, %al
    je say_the_end
count_on:
    mov $(number_text + DIGITS - 1), %esi
carry:
    incb (%esi)
    cmpb $'9', (%esi)
    jbe wait
    movb $'0', (%esi)
    dec %esi
    cmp $number_text, %esi
    jae carry
wait:
    mov pause_turns, %ecx
    test %ecx, %ecx
    jz line
turn:
    pause
    dec %ecx
    jnz turn
    jmp line

# Silence for some 2^32 turns of the TSC, a second or two: what Cloud Hypervisor v53 holds back for a slow reader goes on with the
# next byte, and would end with the guest.
say_the_end:
    rdtsc
    lea 2(%edx), %ecx
silence:
    rdtsc
    sub %ecx, %edx
    js silence
    mov $the_end, %esi
    mov $THE_END_LENGTH, %ecx
print_the_end:
    lodsb
    call print
    dec %ecx
    jnz print_the_end
    jmp finish

after_lines:
    cmpl $0, echo
    je finish
# Gives back what is typed, up to EOT.
read:
    mov $LINE_STATUS, %dx
    in %dx, %al
    test $LSR_RECEIVED, %al
    jz read
    mov $COM1, %dx
    in %dx, %al
    cmp $EOT, %al
    je finish
    call print
    jmp read

finish:
    movb finish_how, %al
    cmp $'r', %al
    je reset
    cmp $'h', %al
    je halt
# Power off: Cloud Hypervisor's ACPI device (devices/src/acpi.rs), q35's PM1a_CNT where SeaBIOS puts it, and the GED of
# QEMU's microvm (include/hw/i386/microvm.h, hw/acpi/generic_event_device.c). Each is deaf where it is not.
    mov $0x600, %dx
    mov $0x34, %al
    out %al, %dx
    mov $0x604, %dx
    mov $0x2000, %ax
    out %ax, %dx
    movb $0x34, 0xfea00200
halt:
    cli
    hlt
    jmp halt
# Reset: Cloud Hypervisor's ACPI device, the chipset's port, the GED, and if none is there a triple fault.
reset:
    mov $0x600, %dx
    mov $0x01, %al
    out %al, %dx
    mov $0xcf9, %dx
    mov $0x06, %al
    out %al, %dx
    movb $0x42, 0xfea00202
    lidt no_interrupts
    int3

# Prints al; keeps all other registers.
print:
    push %edx
    push %eax
    mov $LINE_STATUS, %dx
full:
    in %dx, %al
    test $LSR_EMPTY, %al
    jz full
    pop %eax
    mov $COM1, %dx
    out %al, %dx
    pop %edx
    ret

.data
.align 4
count:         .long 0
length:        .long 64
pause_turns:   .long 0
wide:          .long 0
echo:          .long 0
typed:         .long 0
no_interrupts: .word 0
               .long 0
finish_how:    .byte 'p'
number_text:   .ascii "0000000000"
the_end:       .ascii "the end\n"
.set THE_END_LENGTH, . - the_end

.bss
.align 16
    .skip 256
stack_top:

.section .note.GNU-stack, "", @progbits
