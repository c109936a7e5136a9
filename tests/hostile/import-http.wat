;; Imports HTTP. Must be refused when it is installed.
(import "wasi:http/outgoing-handler@0.2.6" "handle" (func $handle (param i32 i32 i32)))
(run (call $handle (i32.const 1100) (i32.const 2) (i32.const 1536)) (call $fine))
