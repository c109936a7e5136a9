;; Grows its memory whenever the host asks for room, and gives an address in what was not there before. Must harm
;; nobody.
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (drop (memory.grow (i32.const 1))) (i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536)))
(run (call $fine))
