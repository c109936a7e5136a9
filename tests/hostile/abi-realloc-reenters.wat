;; Calls the host while the host asks for room. Must trap: nobody leaves a component then.
(import "chimera:skill/progress@0.1.0" "log" (func $log (param i32 i32 i32)))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (call $log (i32.const 1) (i32.const 1100) (i32.const 2)) (call $alloc (local.get 0) (local.get 1) (local.get 2) (local.get 3)))
(run (call $fine))
