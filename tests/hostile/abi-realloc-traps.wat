;; Traps when the host asks for room. Must end as a trap.
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
(run (call $fine))
