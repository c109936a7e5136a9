;; Uses garbage-collected structures. Must be refused when it is installed.
(component (core module (type (struct (field (mut i32))))))
