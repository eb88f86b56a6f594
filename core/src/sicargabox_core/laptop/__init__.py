"""`sicargabox run`: the whole product on one machine without any server, every process real and separate.

`preflight` refuses what cannot work, `first_use` fills an empty data folder, `processes` says what runs, `supervision`
keeps it running, `command` is the foreground command that ties them. A cluster runs the same processes without this
package; only `preflight`'s look at a port is of use to a process by itself.
"""
