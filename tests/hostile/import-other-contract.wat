;; Imports an interface of a contract that this host does not serve. Must be refused when it is installed.
(import "chimera:skill/progress@0.9.0" "log" (func $log (param i32 i32 i32)))
(run (call $log (i32.const 1) (i32.const 1100) (i32.const 2)) (call $fine))
