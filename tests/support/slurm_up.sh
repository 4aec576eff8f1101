#!/usr/bin/env bash
# Makes one Debian machine (12 or later) a SLURM cluster of two nodes with a pretended GPU each, for the tests of
# --executor slurm and for trying it. As root:
#
#     bash tests/support/slurm_up.sh [FOLDER]      then   export SLURM_CONF=FOLDER/slurm.conf
#     bash tests/support/slurm_up.sh --down [FOLDER]
#
# All that it writes is in FOLDER (/tmp/sfrbench-slurm), but for munge's key and socket, which have fixed places.
# Both nodes are this machine: each is given one core and half of the memory, and nothing enforces that.
set -euo pipefail

down=no
if [ "${1:-}" = --down ]; then
  down=yes
  shift
fi
folder=$(realpath -m "${1:-/tmp/sfrbench-slurm}")

if [ "$down" = yes ]; then
  for name in slurmd.n1 slurmd.n2 slurmctld slurmdbd mariadb; do
    pid=$(cat "$folder/run/$name.pid" 2>/dev/null || true)
    if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; fi
  done
  exit 0
fi

export DEBIAN_FRONTEND=noninteractive
missing=()
for each in munge slurmctld slurmd slurm-client slurmdbd slurm-wlm-mysql-plugin mariadb-server; do
  dpkg -s "$each" >/dev/null 2>&1 || missing+=("$each")
done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -q
  apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

mkdir -p "$folder"/{run,log,state,database,spool.n1,spool.n2}
chmod 755 "$folder"
for each in 1 2; do # a gres of type gpu has to be a character device
  [ -e "$folder/card$each" ] || mknod "$folder/card$each" c 1 3
done

# Who is who: munge signs what the daemons tell each other.
if ! munge -n >/dev/null 2>&1; then
  install -d -o munge -g munge -m 755 /run/munge
  install -d -o munge -g munge -m 700 /var/log/munge
  runuser -u munge -- /usr/sbin/munged
fi

# Accounting: without it, nobody knows of jobs that ended some minutes ago.
chown -R mysql: "$folder/database" "$folder/run"
if [ ! -d "$folder/database/mysql" ]; then
  mariadb-install-db --no-defaults --user=mysql --datadir="$folder/database" --skip-test-db >/dev/null
fi
socket=$folder/run/mariadb.sock
nohup mariadbd --no-defaults --user=mysql --datadir="$folder/database" --socket="$socket" --skip-networking=0 \
  --bind-address=127.0.0.1 --port=23306 --pid-file="$folder/run/mariadb.pid" --innodb-buffer-pool-size=64M \
  >"$folder/log/mariadb.log" 2>&1 &
for _ in $(seq 60); do
  mariadb-admin --no-defaults --socket="$socket" ping >/dev/null 2>&1 && break
  sleep 0.5
done
mariadb --no-defaults --socket="$socket" <<SQL
create database if not exists slurm_acct_db;
create user if not exists slurm@localhost identified by 'slurm';
create user if not exists slurm@127.0.0.1 identified by 'slurm';
grant all on slurm_acct_db.* to slurm@localhost;
grant all on slurm_acct_db.* to slurm@127.0.0.1;
SQL

host=$(hostname)
memory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 2048))
cat >"$folder/slurmdbd.conf" <<CONF
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=26819
SlurmUser=root
AuthType=auth/munge
PidFile=$folder/run/slurmdbd.pid
LogFile=$folder/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=23306
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
chmod 600 "$folder/slurmdbd.conf"

cat >"$folder/slurm.conf" <<CONF
ClusterName=trial
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
MpiDefault=none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
# no cgroups, which a container may not touch
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=26819
AccountingStorageTRES=gres/gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
# two nodes on one machine have its name, and fewer cores than it
SlurmdParameters=config_overrides
ReturnToService=2
# a job of a partition of a higher tier takes a node of one of a lower tier, whose job has 30 s to save
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26821 CPUs=1 RealMemory=$memory Gres=gpu:1
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=26822 CPUs=1 RealMemory=$memory Gres=gpu:1
PartitionName=main Nodes=n1,n2 Default=YES State=UP PriorityTier=1 GraceTime=30 DefMemPerCPU=1000
PartitionName=urgent Nodes=n1,n2 State=UP PriorityTier=2 PreemptMode=OFF DefMemPerCPU=1000
CONF
cat >"$folder/gres.conf" <<CONF
NodeName=n1 Name=gpu File=$folder/card1
NodeName=n2 Name=gpu File=$folder/card2
CONF
echo CgroupPlugin=cgroup/v1 >"$folder/cgroup.conf"

export SLURM_CONF=$folder/slurm.conf
slurmdbd
for _ in $(seq 60); do
  sacctmgr -n -P show cluster >/dev/null 2>&1 && break
  sleep 0.5
done
sacctmgr -i add cluster trial >/dev/null || true
slurmctld
slurmd -N n1
slurmd -N n2
for _ in $(seq 60); do
  [ "$(sinfo -h -N -t idle | wc -l)" -ge 2 ] && break
  sleep 0.5
done
sinfo -N -o "%N %P %t %G"
echo "export SLURM_CONF=$folder/slurm.conf"
