#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={tasks_per_node}
#SBATCH --cpus-per-task={cpus}{gpus}{time}
#SBATCH --output={name}-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
# Every task is a worker: `zoo train` finds the others in Slurm's variables. Two minutes before the time limit, and when a
# worker or node is lost, the job is queued again and resumes from the last checkpoint.

warned=0
trap 'warned=1; scancel --signal=TERM "$SLURM_JOB_ID.0"' TERM

# No limit on the wait: the chief evaluates and exports after the other workers have ended. srun of Slurm 22.05 to 23.11 does
# not take --cpus-per-task from the job.
srun --kill-on-bad-exit=1 --wait=0 --cpus-per-task={cpus} \
  {command} &
wait $!
status=$?
while [ "$status" -gt 128 ] && kill -0 $! 2>/dev/null; do  # a signal has ended `wait`, not the step
  wait $!
  status=$?
done

# Above 128 a signal has ended a worker: try again, after a warning always, otherwise not forever, and not in a job that was
# cancelled. Status 0 is the end of the training, and an error of the command itself, such as a misspelled option, has status 2.
again=$warned
[ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ] && again=1
if [ "$status" -gt 128 ] && [ "$again" = 1 ] && [ "$(squeue --noheader --job "$SLURM_JOB_ID" --format %T)" = RUNNING ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
