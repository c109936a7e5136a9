;; Gives the host an address at the end of the 32-bit space to write to. Must trap.
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const -16))
(run (call $fine))
